import os
import time

import psutil
import psycopg
import pytest

import services
from i2idist.errors import ServiceError
from services import postgres


@pytest.fixture(scope="module")
def server(services_folder):
    yield postgres.start(services_folder / "pg", databases=("catalog", "other"))
    services.stop(services_folder / "pg")


def connect(url):
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def test_databases_are_there_at_addresses_without_a_password(server):
    for name in ("catalog", "other"):
        with connect(postgres.address(server, name)) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == (name,)
    password = (server.folder / "pgpass").read_text().strip().rsplit(":", 1)[1]
    assert len(password) == 40
    assert (server.folder / "pgpass").stat().st_mode & 0o777 == 0o600
    shown = [repr(server), " ".join(psutil.Process(server.pid).cmdline()), (server.folder / "log.txt").read_text()]
    assert not any(password in text for text in shown)
    assert not (server.folder / "first-password").exists()


def test_without_the_password_nobody_enters(server, tmp_path):
    (tmp_path / "wrong").write_text(f"*:*:*:*:{'0' * 40}\n")
    (tmp_path / "wrong").chmod(0o600)
    for passfile in (tmp_path / "wrong", "/dev/null"):
        url = server.url.split("?")[0] + f"?passfile={passfile}"
        with pytest.raises(psycopg.OperationalError, match="password"):
            connect(url)


def test_rows_survive_a_kill_and_a_stop(server, services_folder):
    with connect(server.url) as connection:
        connection.execute("CREATE TABLE kept (number int)")
    for number, end in enumerate((server.kill, lambda: services.stop(server.folder))):
        end()
        again = postgres.start(services_folder / "pg", databases=("catalog",))
        assert again.url == server.url
        with connect(again.url) as connection:
            connection.execute("INSERT INTO kept VALUES (%s)", (number,))
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (number + 1,)
    assert postgres.start(services_folder / "pg") == again


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must run Postgres as another user")
def test_a_folder_that_its_user_cannot_enter_is_named(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(
        ServiceError, match="Postgres runs as '.*' here, since it refuses root, and can't enter /.*chmod o"
    ):
        postgres.start(closed / "pg")
    assert not (closed / "pg" / "data").exists()


def test_a_kill_does_not_wait_for_init_to_bury_the_children(server, services_folder):
    service = postgres.start(services_folder / "pg", databases=("catalog",))
    begun = time.monotonic()
    service.kill()
    assert time.monotonic() - begun < 1.0
