import pytest
import yaml

RECIPE = {
    "method": {"name": "pix2pix", "width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3},
    "train": {"total_images": 48, "batch_size": 4, "log_every_images": 4, "checkpoint_every_images": 12},
    "resources": {"launcher": "local", "threads_per_worker": 1},
    "tracking": {"offline": True},
}
SEARCH = {
    "objectives": ["edge-iou"],
    "space": {"method.lambda_l1": {"type": "float", "low": 1.0, "high": 100.0, "log": True}},
    "sampler": {"name": "random", "seed": 0},
    "trials": 3,
}


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Generated data is made once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def recipe(tmp_path, cache):
    """Writes a recipe of 12 steps, changed by dotted keys, and returns its path."""

    def write(**sections):
        raw = {**RECIPE, "data": {"url": "generated:edges?size=16&train=12&val=6&test=0", "cache_dir": str(cache)}}
        for name, values in sections.items():
            raw[name] = {**raw.get(name, {}), **values}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(raw))
        return str(path)

    return write


@pytest.fixture
def search_file(tmp_path, recipe):
    """Writes a search of three tiny trials, with other keys as given, and returns its path. None: without that key."""

    def write(sections=None, **keys):
        raw = {"recipe": recipe(**(sections or {})), **SEARCH, **keys}
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in raw.items() if value is not None}))
        return str(path)

    return write


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "runs")


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """Neither studies nor runs of whoever runs the tests."""
    for name in ("I2IDIST_STUDIES", "I2IDIST_RUNS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
