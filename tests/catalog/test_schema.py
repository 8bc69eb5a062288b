"""Migrations, up and down, on both databases."""

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from i2idist.catalog import Catalog, schema
from i2idist.catalog.engine import open_engine, parse
from i2idist.catalog.models import Base
from i2idist.errors import CatalogError

REVISIONS = [script.revision for script in ScriptDirectory(str(schema._FOLDER)).walk_revisions()][::-1]


@pytest.fixture
def engine(url):
    engine = open_engine(parse(url))
    yield engine
    engine.dispose()


def tables(engine):
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names()) - {schema.TABLE}


def version(engine):
    with engine.connect() as connection:
        return schema.revision(connection)


def test_the_newest_revision_is_the_one_that_opening_looks_for():
    assert REVISIONS[-1] == schema.HEAD
    assert sorted(REVISIONS) == REVISIONS


def test_up_and_down_step_by_step(engine):
    assert version(engine) is None
    seen = [tables(engine)]
    for revision in REVISIONS:
        schema.migrate(engine, revision)
        assert version(engine) == revision
        seen.append(tables(engine))
    assert seen[0] == set()
    assert seen[-1] == set(Base.metadata.tables)
    for before, expected in zip(["base", *REVISIONS[:-1]][::-1], seen[:-1][::-1], strict=True):
        schema.migrate(engine, before)
        assert version(engine) == (None if before == "base" else before)
        assert tables(engine) == expected
    schema.migrate(engine, "head")
    assert tables(engine) == set(Base.metadata.tables)


def test_the_migrations_make_what_the_models_describe(engine):
    schema.migrate(engine, "head")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_migration_that_fails_leaves_nothing(engine):
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE translations (id INTEGER)"))  # the third table of the first revision
    with pytest.raises(Exception, match="already exists"):
        schema.migrate(engine, "head")
    assert tables(engine) == {"translations"}
    assert version(engine) is None


def test_many_open_an_empty_database_at_once(url, engine):
    failures = []

    def open_it():
        try:
            Catalog(url).close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert version(engine) == schema.HEAD


def test_a_newer_schema_is_refused_and_left_alone(url, engine):
    Catalog(url).close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CatalogError, match=f"tables of version 9999, newer than .* knows {schema.HEAD}"):
        Catalog(url)
    assert version(engine) == "9999"


def test_an_older_schema_keeps_its_rows(url, engine):
    """Held by every later revision too: rows written at the first one are there at the newest."""
    schema.migrate(engine, REVISIONS[0])
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO datasets (url, name, digest, role, counts, created)"
                " VALUES ('/d', 'd', 'abcdef0', 'paired', '{}', '2026-01-01 00:00:00')"
            )
        )
    with Catalog(url) as catalog:
        assert [row.name for row in catalog.datasets()] == ["d"]


def test_an_open_catalog_needs_no_alembic(tmp_path):
    import subprocess
    import sys

    url = f"sqlite:///{tmp_path}/c.db"
    Catalog(url).close()
    code = f"import sys; from i2idist.catalog import Catalog; Catalog({url!r}); print('alembic' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
    assert create_engine(url).connect().execute(text("PRAGMA journal_mode")).scalar() == "wal"
