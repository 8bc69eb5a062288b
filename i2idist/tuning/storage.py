"""Where studies are: an Optuna storage, on SQLite for one driver or on Postgres for several."""

from __future__ import annotations

import fcntl
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from i2idist import storage
from i2idist.errors import ConfigError, StudyError
from i2idist.launch.run_folder import runs_root

ENVIRONMENT = "I2IDIST_STUDIES"
FILE_NAME = "studies.db"
PATIENCE_S = 300.0
"""How long a storage that goes away is waited for."""
_SQLITE = "sqlite:///"
_POSTGRES = "postgresql+psycopg://"
_CONNECT_S, _BUSY_S, _LONGEST_PAUSE_S = 5, 60, 5.0
_ATTEMPTS = 5
_FORMS = f"Use sqlite:///FOLDER/{FILE_NAME} or postgresql://USER@HOST/NAME?passfile=FILE (--storage, {ENVIRONMENT})."

T = TypeVar("T")


def storage_url(given: str | None = None, root: str | None = None) -> str:
    """Where studies are: `given`, else `I2IDIST_STUDIES`, else a SQLite file beside local runs.

    Raises:
        ConfigError: it names no database that can be used, or holds a password; or runs aren't local and none is named.
    """
    found = given or os.environ.get(ENVIRONMENT)
    if not found:
        runs = runs_root(root)
        if not storage.is_local(runs):
            raise ConfigError(f"Runs are in {runs}, which holds no database. {_FORMS}")
        return f"{_SQLITE}{storage.local_path(runs) / FILE_NAME}"
    scheme, separator, rest = found.partition("://")
    if scheme == "sqlite" and found.startswith(_SQLITE):
        return _SQLITE + os.path.abspath(found.removeprefix(_SQLITE))
    if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise ConfigError(f"Studies can't be kept in '{scheme}'. {_FORMS}")
    if urlsplit(found).password:
        raise ConfigError("The storage's URL holds a password, which workers and logs would show. " + _FORMS)
    return _POSTGRES + rest


def is_shared(url: str) -> bool:
    """Whether several drivers may use it at once."""
    return not url.startswith(_SQLITE)


def is_absent(url: str) -> bool:
    """Whether it is a SQLite file that isn't there."""
    return url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).exists()


def open_storage(url: str) -> RDBStorage:
    """Connect, and make the tables where they aren't there.

    Raises:
        StudyError: it can't be reached, or refuses; or its tables are of another version of Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_S}}
    if is_shared(url):
        patience = {"connect_timeout": _CONNECT_S, "application_name": "i2idist tune"}
        options = {"pool_pre_ping": True, "connect_args": patience}
    for attempt in range(_ATTEMPTS):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except Exception as error:  # of SQLAlchemy, which is known elsewhere
            # Processes that make the tables at the same moment disturb each other; the next attempt finds them made.
            if "already exists" not in str(error) and "duplicate key" not in str(error) or attempt == _ATTEMPTS - 1:
                reason = " ".join(str(error).partition("\n")[0].split())
                raise StudyError(f"The study storage {url} can't be used: {reason}. {_FORMS}") from error
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")


class Patient:
    """Calls that outlast a storage which goes away for a while."""

    def __init__(self, say: Callable[[str], None], patience_s: float = PATIENCE_S) -> None:
        """`say` is told once for each outage."""
        self._say, self._patience_s = say, patience_s
        self.outages = 0

    def __call__(self, call: Callable[[], T]) -> T:
        """The result of `call`, which may be called several times.

        Raises:
            StudyError: the storage stayed away for too long.
        """
        deadline, pause = time.monotonic() + self._patience_s, 0.25
        while True:
            try:
                return call()
            except StorageInternalError as error:
                reason = " ".join(str(error.__cause__ or error).partition("\n")[0].split())
                if time.monotonic() > deadline:
                    raise StudyError(
                        f"The study storage has been away for {self._patience_s:.0f} s: {reason}"
                    ) from error
                if pause == 0.25:
                    self.outages += 1
                    self._say(f"The study storage doesn't answer ({reason}); waiting for it. Trials go on.")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


@contextmanager
def sole_driver(url: str, study: str) -> Iterator[None]:
    """On SQLite, whose transactions don't keep two drivers apart: hold a lock until the end.

    Raises:
        StudyError: another process of this machine drives the study.
    """
    if is_shared(url):
        yield
        return
    path = Path(f"{url.removeprefix(_SQLITE)}.{study}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyError(
                f"The study '{study}' is driven by another process, and SQLite takes one. For several drivers keep "
                "studies in Postgres: --storage postgresql://USER@HOST/NAME?passfile=FILE."
            ) from error
        yield
