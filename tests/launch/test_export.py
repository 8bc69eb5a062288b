import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from i2idist import launch
from i2idist.errors import RunError
from i2idist.launch.run_folder import RunFolder
from i2idist.model import load
from i2idist.train.checkpoint import Checkpoints
from tests.cli.test_main import run as command


@pytest.fixture
def trained(tiny, root):
    """A run whose best checkpoint isn't its newest: validation improves, and the largest value counts as best."""
    train = {"validate_every_images": 12, "best_metric": "generator/l1", "best_mode": "max"}
    launch.train(tiny(train=train), run="r", root=root)
    return RunFolder(root, "r")


def exported(url):
    return safetensors.torch.load_file(next(Path(url).glob("weights-*.safetensors")))


def generator(folder, name):
    tensors = Checkpoints(folder.checkpoints).load(name).tensors
    return {key.removeprefix("method."): t for key, t in tensors.items() if key.startswith("method.G.")}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_best_checkpoint_is_exported_or_the_newest(trained, root, tmp_path):
    result = trained.result()
    newest = result["checkpoint"].rsplit("/", 1)[-1]
    assert result["best"] != newest
    for which, name in (("best", result["best"]), ("newest", newest)):
        card = launch.export("r", str(tmp_path / which), root=root, which=which)
        assert card.lineage["checkpoint"] == name
        assert same(exported(tmp_path / which), generator(trained, name))
    assert not same(exported(tmp_path / "best"), exported(tmp_path / "newest"))


def test_the_model_says_where_it_came_from(trained, root, tmp_path):
    lineage = launch.export("r", str(tmp_path / "m"), root=root).lineage
    assert lineage["run"] == "r"
    assert lineage["run_url"] == trained.url
    assert lineage["dataset_digest"] == trained.record()["data_digest"]
    assert lineage["experiment_digest"] == trained.experiment().digest
    assert "mlflow_run_id" not in lineage, "this run is offline"
    trained.write_result({**trained.result(), "mlflow_run_id": "1" * 32})
    assert launch.export("r", str(tmp_path / "m"), root=root).lineage["mlflow_run_id"] == "1" * 32


def test_a_run_that_has_not_ended_is_exported_from_its_newest_checkpoint(trained, root, tmp_path):
    best = trained.result()["best"]
    trained.clear_result()
    assert launch.export("r", str(tmp_path / "m"), root=root).lineage["checkpoint"] == best


def test_the_command_writes_a_model_that_loads_without_disturbing_draws(trained, root, tmp_path, capsys):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    out, _, code = command(capsys, "export", "r", str(tmp_path / "m"), "--root", root, "--json")
    assert torch.equal(torch.rand(3), expected)
    assert code == 0
    translator = load(str(tmp_path / "m"))
    assert json.loads(out)["weights_sha256"] == translator.card.weights_sha256
    domain = translator.card.domains.a
    assert translator.translate(torch.zeros(2, domain.channels, domain.height, domain.width)).shape[0] == 2


def test_what_can_not_be_exported_is_told(trained, root, tmp_path):
    with pytest.raises(RunError, match="Did you mean 'r'"):
        launch.export("rr", str(tmp_path / "m"), root=root)
    checkpoints = Checkpoints(trained.checkpoints)
    for name in checkpoints.names():
        Path(checkpoints.url(name), "COMMIT.json").unlink()
    with pytest.raises(RunError, match="no checkpoint yet"):
        launch.export("r", str(tmp_path / "m"), root=root)
