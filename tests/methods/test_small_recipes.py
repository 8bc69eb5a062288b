"""Every small recipe, from training on two Ray workers to a batch of translations by the registered model."""

import pytest

from i2idist import extractors, launch, load
from i2idist.data.generated import resolve
from i2idist.data.manifest import load_manifest
from i2idist.evaluate.classifiers import domains_of
from i2idist.experiment import Resources, method_class, read_experiment
from i2idist.launch.cluster import cluster
from i2idist.methods.gan import built
from i2idist.model import save
from i2idist.recipe import recipes
from i2idist.tracking.registry import promote, register
from i2idist.translate import Options, sample, translate
from tests.methods.test_recipes import described

SMALL = [name for name in recipes() if name.endswith("_small") or name == "segan_digits"]
STEPS = 3


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """A Ray for all of them, whose workers find MLflow."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        with cluster(Resources(num_workers=2, threads_per_worker=1), print):
            yield uri


def register_generator(uri, folder):
    """A generator under the name that a recipe starts from."""
    name, place, what = uri.removeprefix("models:/").partition("@")[0], str(folder / "source"), described(uri)
    save(place, built(what), method_name=what.method, domains=what.domains)
    register(place, name)
    promote(name)


def register_extractor(uri, config, folder):
    """A semantic extractor under the name that a recipe starts from."""
    name = uri.removeprefix("models:/").partition("@")[0]
    url, (domain,) = domains_of("generated:textures?bias=none&label=texture&train=64&val=8&test=0", ["b"], "stored")
    layout = extractors.Layout(config.extractor_width, config.extractor_convs)
    (one,) = extractors.sweep(url, domain, (config.extractor_dim,), layout=layout, epochs=1)
    place = str(folder / "extractor")
    extractors.save(place, one, [one.row], load_manifest(url), domain, layout=layout, epochs=1, seed=0)
    extractors.register(place, name)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("recipe", SMALL)
def test_it_trains_on_two_workers_registers_and_translates(recipe, mlflow, tmp_path):
    experiment = read_experiment(recipe)
    root = str(tmp_path / "runs")
    few = {
        "train.total_images": STEPS * experiment.train.batch_size,
        "resources.num_workers": 2,
        "resources.threads_per_worker": 1,
    }
    for source in dict.fromkeys(source.uri for source in experiment.sources.values()):
        if method_class(experiment.method).generates:
            register_generator(source, tmp_path)
        else:
            register_extractor(source, experiment.method.config, tmp_path)
    result = launch.train(recipe, overrides=few, run="few", root=root)
    assert result.stopped == "done" and result.images >= few["train.total_images"]
    launch.export("few", str(tmp_path / "model"), root=root)
    version = register(str(tmp_path / "model"), recipe.replace("_", "-"), uri=mlflow)
    model = f"models:/{recipe.replace('_', '-')}/{version}"
    translator = load(model)
    if translator.method.generates:
        assert sample(model, 5, str(tmp_path / "out")).outputs == 5
        return
    samples = 2 if translator.card.code_dim else 1
    targets = translator.targets
    for target in targets if len(targets) <= 4 else (targets[0], targets[-1]):  # of many modalities the fused is last
        options = Options(num_samples=samples, target=target)
        done = translate(model, resolve(experiment.data.url), str(tmp_path / "out"), options, split="test")
        assert done.outputs == done.inputs * samples > 0
