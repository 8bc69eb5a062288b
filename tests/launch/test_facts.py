import subprocess

import pytest
import torch

from i2idist.errors import RunError
from i2idist.launch.facts import code_revision, facts, merged, unequal
from i2idist.launch.worker import _same_data


def git(folder, *arguments):
    author = ["-c", "user.name=x", "-c", "user.email=x@y.z"]
    subprocess.run(["git", "-C", str(folder), *author, *arguments], check=True, capture_output=True)


def test_other_changes_are_another_code(tmp_path):
    assert code_revision(tmp_path) is None
    file = tmp_path / "i2idist" / "a.py"
    file.parent.mkdir()
    file.write_text("a = 0\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = code_revision(tmp_path)
    assert len(clean) == 40
    (tmp_path / "notes.txt").write_text("not part of the code")
    assert code_revision(tmp_path) == clean
    found = []
    for path, text in (
        (file, "a = 1\n"),
        (file, "a = 2\n"),
        (file.with_name("b.py"), ""),
        (file.with_name("b.py"), "b"),
    ):
        path.write_text(text)
        found.append(code_revision(tmp_path))
        assert found[-1] == code_revision(tmp_path)
    assert len(set(found)) == 4
    assert all(revision.startswith(f"{clean}+changes-") for revision in found)


def test_where_workers_differ_is_kept_and_told():
    one = facts(torch.device("cpu"), 2)
    assert merged([one, one]) == one
    assert unequal(one) == ""
    other = {**one, "cpu": "abacus", "versions": {**one["versions"], "torch": "0.1", "python": "2"}}
    whole = merged([one, other])
    assert whole["versions"]["torch"] == sorted(["0.1", one["versions"]["torch"]])
    assert unequal(whole).startswith(f"versions.torch 0.1 and {one['versions']['torch']}; cpu ")
    assert "python" not in unequal(whole)


def test_workers_that_see_other_data_are_refused():
    _same_data(["a" * 64, "a" * 64], "/data")
    with pytest.raises(RunError, match="data.url=/data: digest aaaaaaaaaaaa on rank 0, bbbbbbbbbbbb on rank 1"):
        _same_data(["a" * 64, "b" * 64], "/data")
