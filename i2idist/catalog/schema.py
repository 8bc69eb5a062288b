"""The tables' version: brought up to this code's when a catalog is opened."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, MetaData, Table, func, inspect, select

from i2idist.catalog.engine import errors, exists, open_engine, parse, reading, shown
from i2idist.errors import CatalogError

HEAD = "0002"
"""The newest revision that this code knows; kept here so that opening a current catalog needn't import Alembic."""
TABLE = "alembic_version"
_FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x69326964  # names this migration among Postgres's advisory locks


def revision(connection: Connection) -> str | None:
    """The version of the tables that are there; None for none."""
    if not inspect(connection).has_table(TABLE):
        return None
    found = connection.execute(select(Table(TABLE, MetaData(), autoload_with=connection).c.version_num))
    return found.scalar_one_or_none()


def version(url: str) -> tuple[str | None, str]:
    """The version of a catalog's tables, None for none, and the one that this code knows; nothing is changed.

    Raises:
        CatalogError: the database can't be used, or its tables are newer than this code.
    """
    if not exists(url):
        return None, HEAD
    parsed = parse(url)
    engine = open_engine(parsed)
    try:
        with errors(parsed), reading(engine).begin() as connection:
            found = revision(connection)
    finally:
        engine.dispose()
    if found is not None and found != HEAD and not known(found):
        raise CatalogError(_newer(engine, found))
    return found, HEAD


def _newer(engine: Engine, found: str) -> str:
    return (
        f"The catalog {shown(engine.url)} has tables of version {found}, newer than this i2idist, which knows "
        f"{HEAD}. Use the newer i2idist, or another catalog (I2IDIST_CATALOG)."
    )


def ensure(engine: Engine) -> None:
    """Make the tables, or bring them to this code's version. Several processes may do so at once.

    Raises:
        CatalogError: the tables are of a newer version than this code.
    """
    with reading(engine).begin() as connection:
        found = revision(connection)
    if found == HEAD:
        return
    if found is not None and not known(found):
        raise CatalogError(_newer(engine, found))
    migrate(engine, "head")


def known(name: str) -> bool:
    """Whether this code knows the revision `name`."""
    from alembic.script import ScriptDirectory

    return name in {script.revision for script in ScriptDirectory(str(_FOLDER)).walk_revisions()}


def migrate(engine: Engine, target: str) -> None:
    """Bring the tables to a revision, in one transaction that nobody else can be in.

    Args:
        engine: the database.
        target: a revision, older or newer; `head` for the newest, `base` for none.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        config.attributes["connection"] = connection
        found = revision(connection)
        if target == "head" or (target != "base" and (found or "") < target):
            command.upgrade(config, target)
        else:
            command.downgrade(config, target)
