import json

import pytest
from PIL import Image

from i2idist import storage
from i2idist.cli import main
from i2idist.data.layouts import LAYOUTS
from tests.data.samples import flip_byte, make_paired, picture


@pytest.fixture
def run(capsys):
    """Runs `i2idist data ...`; returns exit code, stdout and stderr."""

    def call(*arguments):
        try:
            main(["data", *map(str, arguments)])
            code = 0
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def photos(tmp_path):
    for folder in ("trainA", "trainB", "testA", "testB"):
        for number in range(3):
            path = tmp_path / "photos" / folder / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(number)).save(path)
    return tmp_path / "photos"


def test_pack_then_look(run, photos, tmp_path):
    dest = tmp_path / "sets" / "winter"
    code, out, err = run("pack", photos, dest, "--layout", "trainA-trainB", "--json")
    packed = json.loads(out)
    assert code == 0
    assert (packed["name"], packed["role"]) == ("winter", "unpaired")
    assert packed["splits"] == {"test": {"a": 3, "b": 3}, "train": {"a": 3, "b": 3}}
    assert "12/12" in err
    assert json.loads(run("show", dest, "--json")[1]) == packed
    assert json.loads(run("ls", tmp_path / "sets", "--json")[1]) == {"datasets": [packed]}
    code, out, _ = run("show", dest)
    assert "split train: 3 a, 3 b" in out
    assert packed["digest"] in out


def test_pack_refuses_to_overwrite(run, photos, tmp_path):
    assert run("pack", photos, tmp_path / "d", "--layout", "trainA-trainB")[0] == 0
    code, out, err = run("pack", photos, tmp_path / "d", "--layout", "trainA-trainB")
    assert code == 3
    assert out == ""
    assert "A dataset is at" in err


def test_an_unknown_layout_is_a_usage_error(run, photos, tmp_path):
    code, _, err = run("pack", photos, tmp_path / "d", "--layout", "trainAB")
    assert code == 2
    assert "Did you mean 'trainA-trainB'" in err


def test_help_names_every_layout(run):
    listed = run("pack", "--help")[1]
    assert [name for name in LAYOUTS if f" {name} " not in listed] == []


def test_pack_takes_labels_and_the_middle_of_images(run, tmp_path):
    for name in ("blue", "green", "red"):
        path = tmp_path / "src" / name / "1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(picture(1, size=(9, 6))).save(path)
    args = ("--layout", "color", "--labels", "red,blue", "--crop", "4", "--json")
    code, out, err = run("pack", tmp_path / "src", tmp_path / "d", *args)
    packed = json.loads(out)
    assert code == 0
    assert packed["labels"] == ["red", "blue"]
    assert packed["domains"][0]["size"] == [4, 4]
    assert "2/2" in err
    code, _, err = run("pack", tmp_path / "src", tmp_path / "e", "--layout", "color", "--labels", "rad")
    assert code == 2
    assert "Did you mean 'red'" in err


def test_pack_takes_few_images_of_each_label(run, tmp_path):
    for name in ("train/blue/1", "train/blue/2", "train/blue/3", "train/red/1", "train/red/2", "test/red/1"):
        path = tmp_path / "src" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(len(name))).save(path)
    code, out, _ = run("pack", tmp_path / "src", tmp_path / "d", "--layout", "class-folders", "--limit", 2, "--json")
    assert code == 0
    assert json.loads(out)["splits"] == {"train": {"image": 4}, "test": {"image": 1}}


def test_verify(run, tmp_path):
    url = str(tmp_path / "d")
    shard = make_paired(url, count=9).pool("train", "a").shards[1]
    code, out, _ = run("verify", url, "--decode", "--json")
    assert code == 0
    assert json.loads(out)["ok"]
    assert "is whole: 9 samples, 3 shards" in run("verify", url)[1]
    flip_byte(storage.join(url, shard.name), 600)
    code, out, err = run("verify", url, "--json")
    assert code == 3
    assert len(json.loads(out)["problems"]) == 1
    assert shard.sha256 in err


def test_stats_and_grid(run, tmp_path):
    make_paired(tmp_path / "d", count=4)
    code, out, _ = run("stats", tmp_path / "d", "--json")
    assert code == 0
    assert json.loads(out)["splits"]["train"]["a"]["samples"] == 4
    assert "train" in run("stats", tmp_path / "d")[1]
    code, out, _ = run("grid", tmp_path / "d", tmp_path / "sheet.png", "--columns", 2, "--rows", 2)
    assert code == 0
    assert Image.open(tmp_path / "sheet.png").size[0] > 100


def test_a_grid_needs_no_file_name(run, tmp_path, monkeypatch):
    make_paired(tmp_path / "d", count=4)
    monkeypatch.chdir(tmp_path)
    assert run("grid", tmp_path / "d")[:2] == (0, "Wrote pairs-grid.png.\n")
    assert Image.open(tmp_path / "pairs-grid.png").size[0] > 100


def test_generate(run, tmp_path):
    code, out, _ = run(
        "generate", "edges", tmp_path / "d", "--size", "16x24", "--train", 3, "--val", 0, "--test", 1, "--json"
    )
    assert code == 0
    made = json.loads(out)
    assert {split: counts["a"] for split, counts in made["splits"].items()} == {"train": 3, "test": 1}
    assert made["domains"][1]["size"] == [16, 24]
    code, _, err = run("generate", "egdes", tmp_path / "e")
    assert code == 2
    assert "Did you mean 'edges'" in err
    assert run("generate", "edges", tmp_path / "e", "--size", "big")[0] == 2


def test_a_missing_dataset_is_named(run, tmp_path):
    code, _, err = run("show", tmp_path / "nothing")
    assert code == 3
    assert f"No dataset at {tmp_path / 'nothing'}" in err.replace("\n", "")
