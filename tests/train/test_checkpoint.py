"""Checkpoints are whole or invisible, and say what doesn't fit."""

import json
from pathlib import Path

import pytest
import torch

from i2idist import storage
from i2idist.errors import CheckpointError, StorageError
from i2idist.train.checkpoint import Checkpoints, State, copy_into, tensors_sha256


def _state(value: float) -> State:
    return State(
        {"w": torch.full((2, 3), value), "step": torch.tensor(value)}, {"images": int(value), "best": {"value": 0.1}}
    )


def _save(checkpoints: Checkpoints, images: int, best: str | None = None) -> str:
    name = checkpoints.save(_state(float(images)), images, best)
    checkpoints.wait()
    return name


def test_round_trip_is_exact(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    name = _save(checkpoints, 10)
    found = checkpoints.newest()
    assert found is not None and found[0] == name
    assert torch.equal(found[1].tensors["w"], _state(10.0).tensors["w"])
    assert found[1].rest == _state(10.0).rest


def test_saving_clones_before_training_goes_on(tmp_path):
    live = torch.zeros(1000)
    checkpoints = Checkpoints(str(tmp_path))
    name = checkpoints.save(State({"w": live}, {}), 1)
    live.fill_(1.0)
    checkpoints.wait()
    assert float(checkpoints.load(name).tensors["w"].sum()) == 0.0


def test_latest_and_best_are_kept(tmp_path):
    checkpoints = Checkpoints(str(tmp_path), keep=2)
    best = _save(checkpoints, 1)
    for images in (2, 3, 4):
        _save(checkpoints, images, best)
    assert checkpoints.names() == [best, "images-000000000003", "images-000000000004"]
    assert len(list(tmp_path.iterdir())) == 3


def test_without_commit_it_does_not_exist(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    first, second = _save(checkpoints, 1), _save(checkpoints, 2)
    (tmp_path / second / "COMMIT.json").unlink()
    assert checkpoints.names() == [first]


def test_a_damaged_one_is_named_and_passed_over(tmp_path):
    messages: list[str] = []
    checkpoints = Checkpoints(str(tmp_path), on_retry=messages.append)
    first, second = _save(checkpoints, 1), _save(checkpoints, 2)
    file = tmp_path / second / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    found = checkpoints.newest()
    assert found is not None and found[0] == first
    assert second in messages[0] and "expected" in messages[0] and "found" in messages[0]
    (tmp_path / first / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=first):
        checkpoints.newest()


def test_a_lost_file_is_passed_over(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    first, second = _save(checkpoints, 1), _save(checkpoints, 2)
    (tmp_path / second / "state.safetensors").unlink()
    found = checkpoints.newest()
    assert found is not None and found[0] == first


def test_a_failed_clean_up_keeps_the_new_checkpoint(tmp_path, monkeypatch):
    messages: list[str] = []
    checkpoints = Checkpoints(str(tmp_path), keep=1, on_retry=messages.append)
    _save(checkpoints, 1)
    real = storage.delete

    def refuse_old(url: str, recursive: bool = False) -> None:
        if "000000000001" in url:
            raise StorageError("no deleting here")
        real(url, recursive)

    monkeypatch.setattr(storage, "delete", refuse_old)
    second = _save(checkpoints, 2)
    assert second in checkpoints.names() and "no deleting here" in messages[0]


def test_what_must_come_before_the_commit_does(tmp_path):
    seen: list[list[str]] = []
    checkpoints = Checkpoints(str(tmp_path), before_commit=lambda: seen.append(checkpoints.names()))
    name = _save(checkpoints, 1)
    assert seen == [[]] and checkpoints.names() == [name]


def test_an_unknown_format_is_refused(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    name = _save(checkpoints, 1)
    commit = tmp_path / name / "COMMIT.json"
    commit.write_text(json.dumps({**json.loads(commit.read_text()), "format_version": 99}))
    with pytest.raises(CheckpointError, match="version 99"):
        checkpoints.newest()


def test_storage_that_refuses_is_tried_again(tmp_path, monkeypatch):
    refusals = 2
    real = storage.write_bytes

    def refuse_twice(url: str, data: bytes) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise StorageError("the store is away")
        real(url, data)

    monkeypatch.setattr(storage, "write_bytes", refuse_twice)
    messages: list[str] = []
    checkpoints = Checkpoints(str(tmp_path), on_retry=messages.append)
    _save(checkpoints, 1)
    assert len(messages) == 2 and checkpoints.newest() is not None


def test_keys_that_do_not_fit_are_named_and_nothing_is_copied():
    live = {"a": torch.zeros(2), "b": torch.zeros(3)}
    for saved, key in (
        ({"a": torch.ones(2)}, "b"),
        ({"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(1)}, "c"),
        ({"a": torch.ones(2), "b": torch.ones(4)}, r"b \(\[4\]"),
    ):
        with pytest.raises(CheckpointError, match=key):
            copy_into(live, saved, "checkpoint")
    assert float(live["a"].sum()) == 0.0


def test_restoring_keeps_strides():
    live = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    saved = torch.randn(2, 3, 4, 4)
    copy_into({"w": live}, {"w": saved}, "checkpoint")
    assert live.is_contiguous(memory_format=torch.channels_last) and torch.equal(live, saved)


def test_digest_depends_on_names_shapes_and_bits():
    base = {"w": torch.zeros(4)}
    digests = {
        tensors_sha256(t)
        for t in (
            base,
            {"v": torch.zeros(4)},
            {"w": torch.zeros(2, 2)},
            {"w": -torch.zeros(4)},
            {"w": torch.zeros(4).double()},
        )
    }
    assert len(digests) == 5


def test_files_are_not_pickles(tmp_path):
    name = _save(Checkpoints(str(tmp_path)), 1)
    assert {p.name for p in Path(tmp_path, name).iterdir()} == {"state.safetensors", "state.json", "COMMIT.json"}
