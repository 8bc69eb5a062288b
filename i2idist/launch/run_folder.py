"""A run's folder, at any storage URL: what it is, how it went, and where it stands.

```
NAME/experiment.yaml   the resolved experiment and its digest
     run.json          what it was launched on, each time; the data's digest
     lease/            who writes (see `lease`)
     metrics.jsonl     the events of training, each step once
     log.txt           rank 0's log; log.N.txt: rank N's
     checkpoints/      see `train.checkpoint`
     result.json       how it ended
     stop              present when somebody asked it to stop
```
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from typing import Any

from i2idist import storage
from i2idist.errors import ConfigError, RunError, nearest
from i2idist.experiment import Experiment, from_yaml

FORMAT_VERSION = 1
_HEADER = "# The resolved experiment of an i2idist run. Don't edit: sha256 "


def runs_root(root: str | None = None) -> str:
    """Where runs are: `root`, or `I2IDIST_RUNS`, or `./runs`; local paths absolute, for workers elsewhere."""
    url = root or os.environ.get("I2IDIST_RUNS") or "runs"
    return str(storage.local_path(url).resolve()) if storage.is_local(url) else url.rstrip("/")


def check_name(name: str) -> None:
    """Refuse a run name that is no plain folder name.

    Raises:
        ConfigError: it is empty, too long, or holds other characters than letters, digits, dot, dash and underscore.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ConfigError(
            f"'{name}' can't name a run: use 1 to 100 letters, digits, dots, dashes and underscores, a letter or digit "
            "first. A folder for runs goes in --root."
        )


def minted_name(stem: str) -> str:
    """A new run's name: `stem`, the time, and four random hexadecimal digits."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "run"
    return f"{plain[:60]}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"


class RunFolder:
    """The folder of one run."""

    def __init__(self, root: str, name: str) -> None:
        """The run `name` below `root`, existing or not.

        Raises:
            ConfigError: the name is no plain folder name.
        """
        check_name(name)
        self.root = root
        self.name = name
        self.url = storage.join(root, name)
        self.lease = self.file("lease")
        self.checkpoints = self.file("checkpoints")
        self.metrics = self.file("metrics.jsonl")

    @classmethod
    def existing(cls, root: str, name: str) -> RunFolder:
        """The run `name`, which must exist.

        Raises:
            RunError: it doesn't; names the nearest that does.
        """
        folder = cls(root, name)
        if not folder.exists():
            known = [other for other in storage.list_dir(root) if RunFolder(root, other).exists()]
            raise RunError(
                f"There is no run '{name}' in {root}.{nearest(name, known)} (--root or I2IDIST_RUNS: another place.)"
            )
        return folder

    def file(self, name: str) -> str:
        """The URL of a file of the run."""
        return storage.join(self.url, name)

    def log(self, rank: int) -> str:
        """The URL of a rank's log."""
        return self.file("log.txt" if rank == 0 else f"log.{rank}.txt")

    def exists(self) -> bool:
        """Whether the run was created."""
        return storage.exists(self.file("experiment.yaml"))

    def create(self, experiment: Experiment) -> bool:
        """Create the run; False where it exists already."""
        return storage.create_bytes(self.file("experiment.yaml"), _signed(experiment))

    def experiment(self) -> Experiment:
        """The run's experiment.

        Raises:
            RunError: the file was edited.
        """
        where = self.file("experiment.yaml")
        try:
            header, _, body = storage.read_bytes(where).decode().partition("\n")
        except UnicodeDecodeError as error:
            raise RunError(f"{where} is no UTF-8 text: {error}. Restore it, or remove the run.") from error
        experiment = from_yaml(body, where)
        if header != f"{_HEADER}{experiment.digest}":
            raise RunError(
                f"{where} was edited: its content no longer has the digest in its first line. "
                "Change keys on the command line."
            )
        return experiment

    def change(self, experiment: Experiment) -> None:
        """Replace the experiment of a run that is being continued with permitted changes."""
        storage.write_bytes(self.file("experiment.yaml"), _signed(experiment))

    def record(self) -> dict[str, Any]:
        """`run.json`: the launches so far and the data's digest."""
        where = self.file("run.json")
        if not storage.exists(where):
            return {
                "format_version": FORMAT_VERSION,
                "name": self.name,
                "created": now(),
                "data_digest": None,
                "launches": [],
            }
        record = _object(where)
        if record.get("format_version") != FORMAT_VERSION:
            raise RunError(
                f"{where} has format version {record.get('format_version')}; this i2idist reads {FORMAT_VERSION}."
            )
        return record

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace `run.json`."""
        storage.write_bytes(self.file("run.json"), json.dumps(record, indent=2).encode())

    def result(self) -> dict[str, Any] | None:
        """How the run ended; None while it hasn't."""
        where = self.file("result.json")
        if not storage.exists(where):
            return None
        return _object(where)

    def write_result(self, result: dict[str, Any]) -> None:
        """Say how the run ended."""
        storage.write_bytes(self.file("result.json"), json.dumps(result, indent=2).encode())

    def clear_result(self) -> None:
        """The run goes on."""
        storage.delete(self.file("result.json"))

    def request_stop(self) -> None:
        """Ask the run's writer to stop with a checkpoint."""
        storage.write_bytes(self.file("stop"), now().encode())

    def stop_requested(self) -> bool:
        """Whether it was asked to stop."""
        return storage.exists(self.file("stop"))

    def clear_stop(self) -> None:
        """Forget an earlier request to stop."""
        storage.delete(self.file("stop"))


def _object(where: str) -> dict[str, Any]:
    """The JSON object in the file at `where`.

    Raises:
        RunError: it is none.
    """
    try:
        found = json.loads(storage.read_bytes(where))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where} is damaged: {error}. Restore it, or remove the run.") from error
    if not isinstance(found, dict):
        raise RunError(f"{where} is damaged: it holds no JSON object. Restore it, or remove the run.")
    return found


def _signed(experiment: Experiment) -> bytes:
    return f"{_HEADER}{experiment.digest}\n{experiment.as_yaml()}".encode()


def now() -> str:
    """The time, UTC, as ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
