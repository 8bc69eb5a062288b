"""What travels to a cluster: a command, the resolved experiment, and what tells the code that it is meant for.

```
submitted.py       the driver, `jobs/drivers` in a clone
identity.py        how it computes a digest
submission.json    the command; version, revision and digest of the client's code
experiment.yaml    the resolved experiment, for `train`
```
No secret is among them, nor in the job's environment or metadata, which the cluster shows: nodes have their own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import i2idist
from i2idist.catalog.hooks import SUBMISSION
from i2idist.errors import ConfigError, SubmissionError
from i2idist.experiment import Experiment, flatten
from i2idist.launch import identity
from i2idist.launch.facts import REVISION_FILE, code_revision
from i2idist.tracking.settings import ENVIRONMENT as TRACKING

EXPERIMENT_FILE = "experiment.yaml"
ENTRYPOINT = "python submitted.py"
CATALOG, RUNS = "I2IDIST_CATALOG", "I2IDIST_RUNS"
_PACKAGE = Path(i2idist.__file__).parent
_PREFIX = "i2idist."


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A command that is ready to travel.

    Attributes:
        id: names the job on the cluster.
        verb: the command's name, as in `i2idist VERB`.
        name: of the run, or of what else the command makes.
        command: its command line, the verb first; local paths are absolute.
        root: where runs are.
        environment: what of the client's environment travels, see `environment`.
        run_url: the run's folder, where the command has a run.
        experiment: what `train` is given as `EXPERIMENT_FILE`.
    """

    id: str
    verb: str
    name: str
    command: Sequence[str]
    root: str
    environment: Mapping[str, str]
    run_url: str | None = None
    experiment: Experiment | None = None

    def __post_init__(self) -> None:
        """Refuse to carry passwords.

        Raises:
            ConfigError: a URL holds one.
        """
        for text in self.command:
            refuse_password(text, "an argument")
        if self.experiment:
            for key, value in flatten(self.experiment.as_dict()).items():
                refuse_password(value, key)

    def metadata(self) -> dict[str, str]:
        """What the cluster shows of it: by this the job is found again, from any machine."""
        known = {"verb": self.verb, "name": self.name, "root": self.root, "run_url": self.run_url}
        code = {f"code_{key}": value for key, value in client_code().items()}
        return {f"{_PREFIX}{key}": value for key, value in (known | code).items() if value is not None}

    def pack(self, folder: Path, ship_code: bool) -> dict[str, Any]:
        """Write the payload below `folder`.

        Args:
            folder: an empty one, which must stay until the payload was sent.
            ship_code: whether the package travels too.

        Returns:
            Ray's runtime environment.
        """
        payload = folder / "payload"
        payload.mkdir()
        shutil.copyfile(_driver(), payload / "submitted.py")
        shutil.copyfile(identity.__file__, payload / "identity.py")
        values = {
            "verb": self.verb,
            "command": list(self.command),
            "experiment_sha256": self.experiment and self.experiment.digest,
            "code": client_code(),
            "versions": identity.versions(),
            "shipped": ship_code,
        }
        (payload / "submission.json").write_text(json.dumps(values, indent=2))
        if self.experiment:
            (payload / EXPERIMENT_FILE).write_text(self.experiment.as_yaml())
        environment = {**self.environment, SUBMISSION: self.id}
        modules = {"py_modules": [str(_ship(folder))]} if ship_code else {}
        return {"working_dir": str(payload), "env_vars": environment, **modules}


def about_job(metadata: Mapping[str, str]) -> dict[str, str]:
    """What `Submission.metadata` said; empty for a job that is none of ours."""
    return {key.removeprefix(_PREFIX): value for key, value in metadata.items() if key.startswith(_PREFIX)}


def client_code() -> dict[str, str | None]:
    """Version, revision and digest of the package that runs here."""
    digest = identity.package_digest(_PACKAGE)
    return {"version": i2idist.__version__, "revision": code_revision(), "digest": digest}


def environment(root: str, database: Callable[[str, str], str]) -> dict[str, str]:
    """What of this environment decides where the job's records go; the rest is the nodes' own.

    Args:
        root: where runs are, absolute.
        database: makes a database's URI absolute, given that and the variable's name.

    Raises:
        ConfigError: MLFLOW_TRACKING_URI holds a password.
    """
    found = {RUNS: root}
    uri, catalog = os.environ.get(TRACKING), os.environ.get(CATALOG)
    if uri:
        refuse_password(uri, TRACKING)
        found[TRACKING] = database(uri, TRACKING)
    if catalog and not _has_password(catalog):  # the work doesn't need it, and `i2idist jobs` keeps the client's own
        found[CATALOG] = database(catalog, CATALOG)
    return found


def absolute_database(uri: str) -> str:
    """A SQLite file's URL with its path made absolute; others as they are."""
    scheme, separator, path = uri.partition(":///")
    if not scheme.startswith("sqlite") or not separator or not path or path.startswith(":"):
        return uri
    return f"{scheme}:///{Path(path).resolve()}"


def refuse_passwords(arguments: Mapping[str, object]) -> None:
    """Refuse a command's arguments where a URL among them, or an override's value, holds a password.

    Raises:
        ConfigError: one does.
    """
    for name, value in arguments.items():
        for text in value if isinstance(value, (list, tuple)) else [value]:
            key, equals, _ = str(text).partition("=")
            refuse_password(text, key if equals and "://" not in key else name)


def refuse_password(value: object, where: str) -> None:
    """Refuse a URL that holds a password.

    Raises:
        ConfigError: it does; the message doesn't repeat it.
    """
    if isinstance(value, str) and _has_password(value):
        raise ConfigError(
            f"{where} holds a password, which the cluster would show to everyone who sees its jobs: nothing was sent. "
            "Leave the password out, or unset the variable: nodes read theirs from their own environment."
        )


def _has_password(text: str) -> bool:
    """Whether a URL, or an override's value `KEY=URL`, holds one."""
    try:
        return any(urlsplit(url).password for url in (text, text.partition("=")[2]))
    except ValueError:  # no URL
        return False


def _driver() -> Path:
    """The driver: from the wheel, or from the clone."""
    for folder in (_PACKAGE / "drivers", _PACKAGE.parent / "jobs" / "drivers"):
        if (folder / "submitted.py").exists():
            return folder / "submitted.py"
    raise SubmissionError(f"The driver of submitted jobs is missing beside {_PACKAGE}: install i2idist again, whole.")


def _ship(folder: Path) -> Path:
    """A copy of the package's folder, for Ray to put before what is installed.

    A folder and no wheel: an installed package has no source tree that a wheel could be built of. It carries its
    revision, which the cluster couldn't ask git for.
    """
    copy = folder / _PACKAGE.name
    shutil.copytree(_PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    revision = code_revision()
    if revision:
        (copy / REVISION_FILE).write_text(revision)
    return copy
