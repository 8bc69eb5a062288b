"""Opening the database: which one, how it is spoken to, and what its errors become.

SQLite is opened so that several processes can write: a write-ahead log, and writers that wait for each other from the
beginning of their transaction. It belongs on a local disk; on a network file system use Postgres.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from i2idist import storage
from i2idist.errors import CatalogError

FILE_NAME = "catalog.db"
BUSY_S = 30.0
"""How long a SQLite writer waits for the others."""
CONNECT_S = 5
"""How long a Postgres server is given to answer."""

_READS = "i2idist_reads"
_DRIVERS = {"sqlite": "sqlite", "postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}


def default_url(root: str | None = None) -> str:
    """`I2IDIST_CATALOG`; else a SQLite file beside the runs where they are local, else in the user's data folder.

    Args:
        root: where runs are; None: I2IDIST_RUNS, or ./runs.
    """
    given = os.environ.get("I2IDIST_CATALOG")
    if given:
        return given
    runs = root or os.environ.get("I2IDIST_RUNS") or "runs"
    folder = storage.local_path(runs) if storage.is_local(runs) else _user_folder()
    return f"sqlite:///{folder.resolve() / FILE_NAME}"


def _user_folder() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "i2idist"


def parse(url: str) -> URL:
    """The database that `url` names, with the driver that speaks to it.

    Raises:
        CatalogError: it names none that can be used. The message doesn't repeat the URL, which may hold a password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise CatalogError(f"The catalog's URL can't be read.{_FORMS}") from error
    kind = parsed.drivername.partition("+")[0]
    if kind not in _DRIVERS:
        raise CatalogError(f"The catalog can't be kept in '{kind}'.{_FORMS}")
    return parsed.set(drivername=_DRIVERS[kind])


_FORMS = " Use sqlite:///FOLDER/catalog.db or postgresql://USER@HOST/NAME (I2IDIST_CATALOG; passwords: PGPASSFILE)."


def exists(url: str) -> bool:
    """Whether the database is there, or at least isn't a SQLite file that is absent."""
    file = _file(parse(url))
    return file is None or file.exists()


def _file(url: URL) -> Path | None:
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file else None


def shown(url: URL) -> str:
    """The URL without password, options and driver, for messages."""
    return url.set(drivername=url.get_backend_name(), query={}).render_as_string(hide_password=True)


def open_engine(url: URL) -> Engine:
    """An engine for `url`; nothing is connected yet. Connections that a restarted server dropped are replaced.

    Raises:
        CatalogError: the folder of a SQLite file can't be made, or the driver is missing.
    """
    with errors(url):
        if url.get_backend_name() == "sqlite":
            file = _file(url)
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(url)
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        patience = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_S}
        return create_engine(url, pool_pre_ping=True, connect_args={"application_name": "i2idist", **patience})


def reading(engine: Engine) -> Engine:
    """The engine for transactions that only read, which on SQLite wait for no writer."""
    return engine.execution_options(**{_READS: True})


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would come late: see _begin_sqlite
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
    cursor.execute("PRAGMA foreign_keys = ON")
    _use_log(cursor)
    cursor.close()


def _use_log(cursor: sqlite3.Cursor) -> None:
    """Changing the journal's mode doesn't wait for others who do so at the same moment, so it is tried again."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    """A transaction that begins by reading and then writes fails at once where another wrote between; so it doesn't."""
    reads = connection.get_execution_options().get(_READS)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


@contextmanager
def errors(url: URL) -> Iterator[None]:
    """What SQLAlchemy raises becomes a `CatalogError` that names the database, without statement or parameters."""
    try:
        yield
    except NoSuchModuleError as error:
        raise CatalogError(f"The catalog {shown(url)} needs a driver that isn't installed: {error}") from error
    except (SQLAlchemyError, OSError, ImportError) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        detail = " ".join(str(cause).split()) or type(cause).__name__
        raise CatalogError(
            f"The catalog {shown(url)} can't be used: {detail.rstrip('.?')}.{_mend(url, error)}"
        ) from error


def may_pass(error: CatalogError) -> bool:
    """Whether a server was away, which may be back in a moment. SQLite has waited already."""
    cause = error.__cause__
    return isinstance(cause, (OperationalError, InterfaceError)) and not isinstance(cause.orig, sqlite3.Error)


def _mend(url: URL, error: Exception) -> str:
    if isinstance(error, DBAPIError) and not isinstance(error, (OperationalError, InterfaceError)):
        return ""
    if url.get_backend_name() == "sqlite":
        return " Check that the folder can be written and has room (I2IDIST_CATALOG: another place)."
    return " Check that the server runs and that user, password and database are right (I2IDIST_CATALOG)."
