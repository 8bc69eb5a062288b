"""What `submit` and `jobs` refuse on the client: nothing is sent then."""

import importlib
import socket
from pathlib import Path

import pytest
import yaml

from i2idist import launch
from i2idist.cli import main
from i2idist.cli.submit import VERBS
from i2idist.cli.verbs import Client
from i2idist.experiment import read_experiment

SECRET = "hunter2"
EDGES = "generated:edges?size=16&train=8&val=0&test=0"


@pytest.fixture
def cluster(monkeypatch):
    """An address where somebody listens, and would notice."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "I2IDIST_CATALOG", "MLFLOW_TRACKING_URI"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe, a run of it that is finished, and its model. Nothing here makes another."""
    folder = tmp_path_factory.mktemp("client")
    raw = {
        "method": {"name": "pix2pix", "width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3},
        "data": {"url": EDGES, "cache_dir": str(folder / "cache")},
        "train": {"total_images": 4, "batch_size": 4},
        "resources": {"launcher": "local", "threads_per_worker": 1},
        "tracking": {"offline": True},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(raw))
    (folder / "classes" / "red").mkdir(parents=True)
    (folder / "classes" / "red" / "1.png").touch()
    launch.train(str(folder / "tiny.yaml"), run="old", root=str(folder / "runs"))
    launch.export("old", str(folder / "model"), root=str(folder / "runs"))
    return folder


@pytest.fixture
def recipe(folder, monkeypatch):
    """The recipe, from the folder that it is in, where runs are too."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("I2IDIST_RUNS", str(folder / "runs"))
    return "./tiny.yaml"


def run(capsys, *arguments):
    """What a command prints to stdout and stderr, and its exit code."""
    code = 0
    try:
        main(list(arguments))
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    return captured.out, captured.err, code


TRAIN = ["train", "./tiny.yaml"]
PACK = ["data", "pack"]
TUNE = ["tune", "segan_lambda_mi"]
ALIKE = [
    ([*TRAIN, "train.totl_images=3"], 2, "Did you mean 'train.total_images'?"),
    ([*TRAIN, "method.lambda_l2=3"], 2, "Did you mean 'method.lambda_l1'?"),
    ([*TRAIN, "train.total_images=few"], 2, "train.total_images"),
    ([*TRAIN, "resources.num_workers=8", "resources.launcher=ray"], 2, "groups"),
    (["train", "./absent.yaml"], 2, "There is no recipe file ./absent.yaml"),
    ([*TRAIN, "--run", "../x"], 2, "can't name a run"),
    ([*TRAIN, "data.url=/nowhere"], 3, "/nowhere"),
    ([*TRAIN, "data.url=generated:edgs"], 2, "edges"),
    ([*TRAIN, "--init-from", "absent"], 2, "'absent' is no safetensors file"),
    ([*TRAIN, "--run", "old", "seed=5"], 5, "another experiment: seed is 0 there, 5 here"),
    (["resume", "older"], 5, "Did you mean 'old'?"),
    (["resume", "old", "method.lambda_l1=3"], 5, "another experiment"),
    (["translate", "absent", "generated:edges", "out"], None, "absent"),
    (["translate", "m", "generated:edges", "out", "--size", "big"], 2, "--size is 'big'"),
    (["translate", "m", "d", "out", "--num-samples", "2", "--style-from", "x.png"], 2, "num_samples is 2, but with"),
    (["translate", "model", EDGES, "out", "--style-from", "x.png"], 2, "pix2pix takes no style from an image"),
    (["translate", "m", "d", "out", "--launcher", "local", "--workers", "2"], 2, "1 for launcher=local"),
    (["evaluate", "absent", "generated:edges", "--protocol", "accuracy"], None, "absent"),
    (["evaluate", "m", "generated:edges", "--protocol", "acuracy"], 2, "Did you mean 'accuracy'?"),
    (["evaluate", "m", "generated:edges", "--protocol", "accuracy", "--size", "big"], 2, "--size is 'big'"),
    (["tune", "segan_lambda"], 2, "Did you mean 'segan_lambda_mi'?"),
    ([*TUNE, "train.totl_images=3"], 2, "Did you mean 'train.total_images'?"),
    ([*TUNE, "--storage", "mysql://host/studies"], 2, "can't be kept in 'mysql'"),
    ([*TUNE, "--study", "../x"], 2, "can't name a run"),
    ([*PACK, "absent", "out", "--layout", "trainA-trainB"], 3, "absent"),
    ([*PACK, ".", "out", "--layout", "trainA-trinB"], 2, "Did you mean 'trainA-trainB'?"),
    ([*PACK, "classes", "out", "--layout", "class-folders", "--labels", "rad"], 2, "Did you mean 'red'?"),
    ([*PACK, "classes", "out", "--layout", "class-folders", "--pairs", "a,b"], 2, "made of multimodal data"),
]
"""Commands that can't be run: what they exit with, where that is known here, and something of what they say."""


@pytest.mark.parametrize(("arguments", "code", "message"), ALIKE, ids=lambda value: str(value)[:60])
def test_a_command_is_refused_as_it_would_be_here_and_nothing_is_sent(
    capsys, cluster, folder, recipe, arguments, code, message
):
    _, here, code_here = run(capsys, *arguments)
    out, err, found = run(capsys, "submit", *arguments)
    assert found == code_here == (code or found) != 0
    assert message in err
    assert err.replace(f"{folder}/", "") == here.replace(f"{folder}/", "")
    assert out == ""
    with pytest.raises(BlockingIOError):
        cluster.accept()
    assert "pending" not in run(capsys, "ls", "jobs")[0]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([*TRAIN, f"tracking.uri=http://me:{SECRET}@host"], {}, "tracking.uri holds a password"),
        ([*TRAIN, "--root", f"s3://me:{SECRET}@runs"], {}, "root holds a password"),
        (TRAIN, {"MLFLOW_TRACKING_URI": f"http://me:{SECRET}@host"}, "MLFLOW_TRACKING_URI holds a password"),
        (TRAIN, {"RAY_API_SERVER_ADDRESS": f"http://me:{SECRET}@127.0.0.1:1"}, "The address holds a password"),
        ([*TRAIN, "--submission-id", "a/b"], {}, "can't name a run"),
        ([*TRAIN, "--token-file", "absent"], {}, "The token file absent can't be read"),
    ],
)
def test_what_only_a_submission_refuses(capsys, cluster, recipe, monkeypatch, arguments, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out, err, code = run(capsys, "submit", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert SECRET not in err
    assert "Traceback" not in err


def test_a_token_file_is_private_and_holds_one(capsys, cluster, recipe, tmp_path):
    file = tmp_path / "token"
    file.write_text("abc")
    file.chmod(0o640)
    _, err, code = run(capsys, "jobs", "ls", "--token-file", str(file))
    assert (code, f"chmod 600 {file}" in err) == (2, True)
    file.chmod(0o600)
    file.write_text("\n")
    _, err, code = run(capsys, "jobs", "ls", "--token-file", str(file))
    assert (code, "holds no token" in err) == (2, True)


def test_nobody_listens(capsys, cluster, recipe):
    cluster.close()
    _, err, code = run(capsys, "jobs", "ls")
    assert code == 11
    assert err.startswith("Error: Nothing answers at http://127.0.0.1:")
    assert run(capsys, "submit", *TRAIN, "--run", "x")[2] == 11
    assert not Path("runs", "x").exists()


def test_no_address(capsys, cluster, recipe, monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    for command in (["submit", *TRAIN], ["jobs", "ls"], ["jobs", "status", "x"], ["jobs", "stop", "x"]):
        _, err, code = run(capsys, *command)
        assert (code, "Give --address http://HEAD:8265" in err) == (2, True)


def test_every_verb_is_a_command_with_its_own_help(capsys):
    for verb, place in VERBS.items():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
        out, _, code = run(capsys, "submit", *verb.split(), "--help")
        assert code == 0
        assert "--ship-code" in out
        assert out.count("--json") == 1
    _, err, code = run(capsys, "submit", "trane")
    assert (code, "No such command 'trane'" in err) == (2, True)


def test_local_paths_are_made_absolute_and_told_of_where_the_cluster_is_elsewhere(recipe, folder):
    told = []
    overrides = {"data.url": "data/x", "init_from": "runs/old", "tracking.uri": "sqlite:///m.db"}
    near, far = Client(True, told.append), Client(False, told.append)
    experiment = near.located(read_experiment(recipe, overrides))
    assert told == []
    assert experiment.data.url == f"{folder}/data/x"
    assert experiment.init_from.uri == f"{folder}/runs/old"
    assert experiment.tracking.uri == f"sqlite:///{folder}/m.db"
    assert near.located(read_experiment(recipe, {"init_from": "old"})).init_from.uri == "old"
    assert far.located(read_experiment(recipe, overrides)).data.url == f"{folder}/data/x"
    assert far.root(None) == f"{folder}/runs"
    assert [text.split(" is the ")[0] for text in told] == [
        "Warning: data.url",
        f"Warning: tracking.uri is sqlite:///{folder}/m.db, which each node would look for on itself.",
        "Warning: init_from",
        "Warning: the folder of runs",
    ]
    told.clear()
    assert far.database("http://127.0.0.1:5000", "MLFLOW_TRACKING_URI") == near.database("http://127.0.0.1:5000", "x")
    assert [text.split(" is ")[0] for text in told] == ["Warning: MLFLOW_TRACKING_URI"]
    told.clear()
    elsewhere = {"data.url": "s3://team/x", "tracking.uri": "http://mlflow:5000"}
    assert far.located(read_experiment(recipe, elsewhere)).data.url == "s3://team/x"
    assert far.place("models:/m@champion", "the model") == "models:/m@champion"
    assert far.root("s3://team/runs/") == "s3://team/runs"
    assert far.located(read_experiment(recipe)).data.url.startswith("generated:")
    assert told == []
