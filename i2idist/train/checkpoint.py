"""Checkpoints: written in the background, visible only when whole, read without pickle.

A checkpoint is a folder `images-NNNNNNNNNNNN` with `state.safetensors` (tensors), `state.json` (the rest) and,
written last, `COMMIT.json` with the size and SHA-256 of both. A folder without `COMMIT.json` doesn't exist for any
reader.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from i2idist import storage
from i2idist.errors import CheckpointError, DamagedCheckpointError, StorageError

FORMAT_VERSION = 1
_TENSORS, _REST, _COMMIT = "state.safetensors", "state.json", "COMMIT.json"
_RETRY_S = 300.0


@dataclass(frozen=True)
class State:
    """All that changes during training: `tensors` by name, and `rest`, JSON-able."""

    tensors: Mapping[str, Tensor]
    rest: Mapping[str, Any] = field(default_factory=dict)

    def clone(self) -> State:
        """A copy on the CPU that later training steps don't change."""
        copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in self.tensors.items()}
        return State(copies, json.loads(json.dumps(self.rest)))


def copy_into(live: Mapping[str, Tensor], saved: Mapping[str, Tensor], where: str) -> None:
    """Copy saved tensors into live ones, keeping the live strides and devices.

    Raises:
        CheckpointError: names, shapes or dtypes differ; nothing is copied then.
    """
    missing, unknown = sorted(live.keys() - saved.keys()), sorted(saved.keys() - live.keys())
    wrong = [
        f"{n} ({list(saved[n].shape)} {saved[n].dtype} saved, {list(live[n].shape)} {live[n].dtype} wanted)"
        for n in sorted(live.keys() & saved.keys())
        if live[n].shape != saved[n].shape or live[n].dtype != saved[n].dtype
    ]
    if missing or unknown or wrong:
        problems = [
            f"{label}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
            for label, names in (("missing", missing), ("unknown", unknown), ("of another shape or dtype", wrong))
            if names
        ]
        raise CheckpointError(
            f"{where} doesn't fit this method. Keys {'; keys '.join(problems)}. Was the method's config changed?"
        )
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(saved[name])


class Checkpoints:
    """The checkpoints of one run, in a folder at any storage URL."""

    def __init__(
        self,
        url: str,
        keep: int = 2,
        on_retry: Callable[[str], None] = lambda message: None,
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """Use the folder at `url`.

        Args:
            url: the folder, made where absent.
            keep: how many of the latest checkpoints are kept; the best is kept besides.
            on_retry: told of each write that is tried again, and of checkpoints that are passed over.
            before_commit: called in the writing thread just before a checkpoint becomes visible; a `StorageError` of
                it is tried again, any other error ends the training.
        """
        self._url = url
        self._keep = keep
        self._on_retry = on_retry
        self._before_commit = before_commit
        self._writer: threading.Thread | None = None
        self._failure: Exception | None = None

    def names(self) -> list[str]:
        """Names of the committed checkpoints, oldest first."""
        found = [n for n in storage.list_dir(self._url) if n.startswith("images-")]
        return [n for n in sorted(found) if storage.exists(storage.join(self._url, n, _COMMIT))]

    def url(self, name: str) -> str:
        """Where the checkpoint `name` lies."""
        return storage.join(self._url, name)

    def save(self, state: State, images: int, best: str | None = None) -> str:
        """Clone `state` now and write it in the background; waits for an earlier write to end.

        Args:
            state: what to save.
            images: the images seen, which name the checkpoint.
            best: the name of a checkpoint to retain besides the latest ones.

        Returns:
            The checkpoint's name.

        Raises:
            StorageError: an earlier write failed for good.
        """
        self.wait()
        name = f"images-{images:012d}"
        copy = state.clone()
        self._writer = threading.Thread(target=self._write, args=(name, copy, best), name="checkpoint", daemon=True)
        self._writer.start()
        return name

    def wait(self) -> None:
        """Wait for the write in flight.

        Raises:
            StorageError: it failed for good.
        """
        if self._writer:
            self._writer.join()
            self._writer = None
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure

    def settle(self) -> None:
        """Let a write in flight end, whatever comes of it: what follows an error must not cut it off."""
        if self._writer:
            self._writer.join()

    def load(self, name: str) -> State:
        """Read a checkpoint back, verified.

        Raises:
            DamagedCheckpointError: a file is missing, or its size or hash isn't the committed one.
            CheckpointError: it has a format that this version doesn't read.
        """
        where = self.url(name)
        try:
            commit = json.loads(storage.read_bytes(storage.join(where, _COMMIT)))
            if commit["format_version"] != FORMAT_VERSION:
                raise CheckpointError(
                    f"{where} has format version {commit['format_version']}; this i2idist reads {FORMAT_VERSION}."
                )
            files = {f: self._read(storage.join(where, f)) for f in (_TENSORS, _REST)}
            for file, data in files.items():
                expected, found = commit["files"][file], _digest(data)
                if expected != found:
                    raise DamagedCheckpointError(
                        f"{where}/{file} is damaged: expected {expected}, found {found}. "
                        "Delete the folder to use an older one."
                    )
            return State(safetensors.torch.load(files[_TENSORS]), json.loads(files[_REST]))
        except (ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as error:
            raise DamagedCheckpointError(
                f"{where} can't be read ({error}). Delete the folder to use an older checkpoint."
            ) from error

    def newest(self) -> tuple[str, State] | None:
        """The newest checkpoint that is whole, or None where there is none.

        A damaged one is passed over for the one before it, which loses no sample: the steps since are taken again.

        Raises:
            DamagedCheckpointError: there are checkpoints, and every one is damaged.
            CheckpointError: one has a format that this version doesn't read.
        """
        failure: DamagedCheckpointError | None = None
        for name in reversed(self.names()):
            try:
                return name, self.load(name)
            except DamagedCheckpointError as error:
                failure = error
                self._on_retry(str(error))
        if failure:
            raise failure
        return None

    def _write(self, name: str, state: State, best: str | None) -> None:
        tensors = safetensors.torch.save(dict(state.tensors))
        rest = json.dumps(state.rest, sort_keys=True).encode()
        commit = {"format_version": FORMAT_VERSION, "files": {_TENSORS: _digest(tensors), _REST: _digest(rest)}}
        where = self.url(name)
        deadline = time.monotonic() + _RETRY_S
        pause = 0.5
        while True:
            try:
                storage.delete(storage.join(where, _COMMIT))
                for file, data in ((_TENSORS, tensors), (_REST, rest)):
                    storage.write_bytes(storage.join(where, file), data)
                self._before_commit()
                storage.write_bytes(storage.join(where, _COMMIT), json.dumps(commit).encode())
                break
            except StorageError as error:
                if time.monotonic() > deadline:
                    self._failure = error
                    return
                self._on_retry(f"checkpoint {name}: {error} Trying again.")
                time.sleep(pause)
                pause = min(pause * 2, 10.0)
            except Exception as error:  # carried to the training thread by wait()
                self._failure = error
                return
        try:
            self._retain(name, best)
        except StorageError as error:
            self._on_retry(f"Older checkpoints stay for now: {error}")

    def _read(self, url: str) -> bytes:
        if not storage.exists(url):
            raise DamagedCheckpointError(f"{url} is missing. Delete its folder to use an older checkpoint.")
        return storage.read_bytes(url)

    def _retain(self, newest: str, best: str | None) -> None:
        kept = {*self.names()[-self._keep :], newest, best}
        for name in self.names():
            if name not in kept:
                storage.delete(storage.join(self.url(name), _COMMIT))
                storage.delete(self.url(name), recursive=True)


def _digest(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{list(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
