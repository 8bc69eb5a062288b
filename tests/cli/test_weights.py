import dataclasses
import json

import pytest
import torch

from i2idist import weights
from i2idist.cli import main


@pytest.fixture
def run(capsys):
    """Runs `i2idist weights ...`; returns exit code, stdout and stderr."""

    def call(*arguments):
        try:
            main(["weights", *map(str, arguments)])
            code = 0
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with a stand-in for AlexNet's file, no other weights but those in packages being anywhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv(weights.PLACE, raising=False)
    known = weights.known("alexnet")
    file = tmp_path / "published" / known.names[0]
    file.parent.mkdir()
    torch.save({"features.0.weight": torch.zeros(3)}, file)
    stand_in = dataclasses.replace(known, sha256=weights.digest(str(file)), size=file.stat().st_size)
    monkeypatch.setitem(weights.WEIGHTS, "alexnet", stand_in)
    return file


def listed(out):
    return {row["name"]: row for row in json.loads(out)["weights"]}


def test_ls_shows_what_is_there_and_who_needs_it(run, published):
    code, out, _ = run("ls", "--json")
    rows = listed(out)
    assert code == 0
    assert rows.keys() == weights.WEIGHTS.keys()
    assert rows["stlpips-alex"]["where"].endswith("alex_shift_tolerant.pth")
    assert rows["alexnet"]["where"] is None
    assert rows["alexnet"]["networks"] == ["lpips-alex"]
    assert rows["vgg16"]["networks"] == ["lpips-vgg", "vgg16"]
    assert all(rows[name]["networks"] for name in rows)
    _, out, _ = run("ls")
    assert "absent" in out
    assert weights.known("vgg16").url in out


def test_fetch_by_network_then_verify(run, published, tmp_path):
    code, out, err = run("fetch", "lpips-alex", "--from", published.parent, "--json")
    rows = listed(out)
    assert code == 0, err
    assert list(rows) == ["alexnet", "lpips-alex-linear"]
    assert rows["alexnet"]["where"].startswith(str(tmp_path / "caches"))
    code, out, _ = run("verify", "lpips-alex", "--json")
    assert code == 0
    assert {row["state"] for row in listed(out).values()} == {"right"}


def test_verify_names_altered_files(run, published):
    kept = weights.fetch("alexnet", str(published))
    kept.write_bytes(b"other")
    code, out, err = run("verify")
    assert code == 2
    assert f"altered  alexnet  {kept}" in out
    assert "i2idist weights fetch alexnet" in err


def test_absent_weights_are_an_error_only_where_they_are_named(run, published):
    code, out, _ = run("verify")
    assert code == 0
    assert "absent  alexnet" in out
    code, _, err = run("verify", "alexnet")
    assert code == 2
    assert "i2idist weights fetch alexnet" in err


def test_an_unknown_name_is_a_usage_error(run, published):
    code, _, err = run("fetch", "alexne")
    assert code == 2
    assert "Did you mean 'alexnet'" in err
