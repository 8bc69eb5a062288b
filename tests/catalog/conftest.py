import secrets
from pathlib import Path

import psycopg
import pytest

from i2idist.catalog import Catalog
from services import postgres


class Server:
    """A real Postgres that a test kills and brings back."""

    def __init__(self, folder):
        self.folder = folder
        self.service = postgres.start(folder, databases=())

    def url(self, database):
        return postgres.address(self.service, database)

    def kill(self):
        self.service.kill()

    def back(self):
        self.service = postgres.start(self.folder, databases=())


@pytest.fixture(scope="session")
def server(services_folder):
    server = Server(Path(services_folder, "catalog"))
    yield server
    server.kill()


@pytest.fixture
def postgres_url(server):
    """An empty database of its own."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(server.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url(name)


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
