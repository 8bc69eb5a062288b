"""Names from a command line or a form: no path, no SQL, no filter language and no terminal code gets in by one."""

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from i2idist.catalog import Catalog
from i2idist.cli import main

HOSTILE = (
    "../outside",
    "/tmp/i2idist-outside",
    "..",
    "x'; DROP TABLE jobs; --",
    "x' OR '1'='1",
    "%",
    "_%",
    "$(touch outside)",
    "name\nwith a second line",
    "\x1b]0;title\x07",
    "[red]marked[/red]",
    "a" * 5000,
    "{0.__class__}",
)

TRANSLATE = ["data", "out", "--num-samples", "1", "--seed", "0"]
COMMANDS = {
    "train": (lambda name: ["train", "tiny.yaml", "--run", name], "can't name a run"),
    "resume": (lambda name: ["resume", name], "can't name a run"),
    "stop": (lambda name: ["stop", name], "can't name a run"),
    "logs": (lambda name: ["logs", name], "can't name a run"),
    "export": (lambda name: ["export", name, "model"], "can't name a run"),
    "register": (lambda name: ["register", "model", name], "can't name a registered model"),
    "alias": (lambda name: ["register", "model", "name", "--alias", name], "can't be an alias"),
    "promote to": (lambda name: ["promote", "name", "--to", name], "can't be an alias"),
    "tune": (lambda name: ["tune", "segan_lambda_mi", "--study", name], "can't name a run"),
    "studies": (lambda name: ["studies", "show", name], "There is no study"),
    "show": (lambda name: ["show", name], "knows nothing named"),
    "lineage": (lambda name: ["lineage", name], "knows nothing named|Can't look at"),
    "translate": (lambda name: ["translate", f"models:/{name}", *TRANSLATE], "names no model"),
    "pack": (
        lambda name: ["data", "pack", "photos", "data", "--layout", "side-by-side", "--name", name],
        "can't be used",
    ),
    "weights": (lambda name: ["weights", "verify", name], "There are no weights named"),
    "method": (
        lambda name: ["train", "tiny.yaml", f"method.name={name}", "--run", "n"],
        "is no method|is not valid YAML|is missing",
    ),
    "evaluate": (lambda name: ["evaluate", "models:/m@champion", "data", "--protocol", name], "There is no protocol"),
}
"""Commands, each with what it says of a name that it can't use."""


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """MLflow's tables take seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def here(tmp_path, monkeypatch, mlflow):
    """A folder to work in, with a catalog that holds one job."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("I2IDIST_RUNS", str(home / "runs"))
    monkeypatch.setenv("I2IDIST_CATALOG", f"sqlite:///{home}/catalog.db")
    monkeypatch.setenv("I2IDIST_STUDIES", f"sqlite:///{home}/studies.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow)
    with Catalog() as catalog:
        catalog.start_job("train", "kept", run_url=str(home / "runs" / "kept"))
    Path("tiny.yaml").write_text(
        yaml.safe_dump({"method": "pix2pix", "data": {"url": "data"}, "train": {"total_images": 4, "batch_size": 4}})
    )
    (home / "photos" / "train").mkdir(parents=True)
    Image.new("RGB", (32, 16)).save(home / "photos" / "train" / "a.png")
    return home


def run(capfd, arguments):
    """Run a command; its exit code and what it wrote."""
    try:
        main(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    said = capfd.readouterr()
    return code, said.out + said.err


def files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_hostile_name_is_an_error_and_leaves_nothing(command, here, tmp_path, capfd):
    before = files(tmp_path)
    for name in HOSTILE:
        arguments, message = COMMANDS[command]
        code, said = run(capfd, arguments(name))
        assert code not in (0, None), f"{command} took {name[:40]!r}: {said}"
        assert "Traceback" not in said, f"{command} {name[:40]!r}:\n{said[-1500:]}"
        assert re.search(message, said), f"{command} {name[:40]!r}: {said[:300]}"
        assert "\x1b]" not in said, f"{command} let a terminal code through"
    made = {str(path.relative_to(tmp_path)) for path in files(tmp_path) - before}
    assert {path for path in made if not path.startswith(("home/studies.db", "home/catalog.db"))} == set()
    with Catalog() as catalog:
        assert len(catalog.jobs()) == 1
