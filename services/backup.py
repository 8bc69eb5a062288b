"""A platform in one file, and back: data, runs, models, databases, ports and secrets, taken while nothing writes.

The file is a plain tar of mode 0600, as secret as the keys in it, with a SHA-256 of each file at its end.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pwd
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from i2idist.errors import ServiceError
from services import platform, postgres
from services.supervise import LOG, RECORD, read_record

_LEFT_OUT = {
    "s3": {LOG},
    "postgres": {LOG, "programs"},
    "mlflow": {LOG},
    "optuna": {LOG},
}
"""What a folder holds besides, which is made anew. Of Ray's only the token and the ports are kept."""
_KEPT_OF_RAY = ("token", RECORD)
_DIGESTS = "backup.json"
_FORMAT = 1


def backup(folder: Path | str, archive: Path | str) -> int:
    """Write everything that a stopped platform keeps to a file.

    Args:
        folder: of the platform.
        archive: the file, which mustn't exist; it appears when it is whole.

    Returns:
        Its bytes.

    Raises:
        ServiceError: the platform runs, there is none, or the file exists.
    """
    home, target = Path(folder).expanduser().resolve(), Path(archive).expanduser()
    _refuse_running(home)
    if target.exists():
        raise ServiceError(f"{target} exists: name another file, or remove it.")
    part = target.with_name(f".{target.name}.part")
    with _removed_unless_done(part):
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            _write(file, home)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    return target.stat().st_size


def restore(archive: Path | str, folder: Path | str) -> None:
    """Put a platform back into a folder; `up` starts it there, at the addresses that it had.

    Args:
        archive: what `backup` wrote.
        folder: which mustn't exist, or be empty; it appears when everything is there and right.

    Raises:
        ServiceError: something is in the folder, or the file is damaged or no backup.
    """
    home = Path(folder).expanduser().resolve()
    if home.exists() and any(home.iterdir()):
        raise ServiceError(f"{home} isn't empty: give a new folder, or move what is there away.")
    part = home.with_name(f".{home.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with _removed_unless_done(part):
        part.mkdir(mode=0o700, parents=True)
        try:
            with tarfile.open(archive, "r:") as tar:
                tar.extractall(part, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise ServiceError(f"{archive} can't be read as a backup: {error}.") from error
        _check(part, archive)
        _settle(part)
        part.chmod(0o711)  # as which user Postgres runs is decided when it starts
        part.replace(home)


def _refuse_running(home: Path) -> None:
    running = [name for name in platform.NAMES if platform.state(home, name).running]
    if running:
        raise ServiceError(
            f"{', '.join(running)} of {home} runs, and a copy of what is being written would be no backup. Let jobs "
            f"end, then: python -m services down --folder {home}"
        )
    if not (home / "postgres" / "data" / "PG_VERSION").exists():
        raise ServiceError(f"There is no platform in {home}: give its --folder.")


def _write(file: IO[bytes], home: Path) -> None:
    digests = {}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in _kept(home):
            name = path.relative_to(home).as_posix()
            tar.add(path, name, recursive=False)
            if path.is_file():
                digests[name] = _sha256(path)
        data = json.dumps({"format": _FORMAT, "sha256": digests}).encode()
        last = tarfile.TarInfo(_DIGESTS)
        last.size, last.mode = len(data), 0o600
        tar.addfile(last, io.BytesIO(data))


def _kept(home: Path) -> Iterator[Path]:
    """Files and folders, each folder before what is in it."""
    for name in platform.NAMES:
        top = home / name
        yield top
        for path in sorted(top.iterdir()):
            if path.name in _LEFT_OUT.get(name, ()) or (name == "ray" and path.name not in _KEPT_OF_RAY):
                continue
            yield path
            if path.is_dir():
                yield from (each for each in sorted(path.rglob("*")) if each.is_file() or each.is_dir())


def _check(part: Path, archive: Path | str) -> None:
    """Hold what was unpacked against the digests that were written last."""
    try:
        said = json.loads((part / _DIGESTS).read_bytes())
        digests = dict(said["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServiceError(f"{archive} is cut off, or no backup of a platform: it has no {_DIGESTS}.") from error
    if said.get("format") != _FORMAT:
        raise ServiceError(f"{archive} has format {said.get('format')}; this i2idist reads {_FORMAT}.")
    (part / _DIGESTS).unlink()
    found = {path.relative_to(part).as_posix(): path for path in part.rglob("*") if path.is_file()}
    wrong = [name for name in digests | found if name not in found or _sha256(found[name]) != digests.get(name)]
    if wrong:
        raise ServiceError(f"{archive} is damaged: {', '.join(sorted(wrong)[:5])}. Use another backup.")


def _settle(part: Path) -> None:
    """What a copy of files alone would get wrong: whose Postgres' data are, and which processes run."""
    data = part / "postgres" / "data"
    user = postgres.other_user()
    for path in [data, *data.rglob("*")]:
        if path.is_dir():
            path.chmod(0o700)
        if user:
            shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
    for name in platform.NAMES:
        record = read_record(part / name)
        if record:
            nobody = dataclasses.replace(record, pid=0, started=0.0)
            (part / name / RECORD).write_text(json.dumps(dataclasses.asdict(nobody), indent=1))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _removed_unless_done(part: Path) -> Iterator[None]:
    """Leave nothing half-made behind."""
    try:
        yield
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
