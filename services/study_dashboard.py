"""optuna-dashboard on the storage of studies, on loopback."""

from __future__ import annotations

import importlib.util
import sys
import urllib.parse
from pathlib import Path

from i2idist.errors import ServiceError
from services.supervise import Service, answers, claimed

_NAME = "study dashboard"


def start(folder: Path | str, storage: str, port: int | None = None, *, timeout_s: float = 60.0) -> Service:
    """Start the dashboard of `folder`, or find it running.

    Args:
        folder: where it keeps its log.
        storage: the studies: `sqlite:///FILE`, or a URL as `services.postgres.address` gives; no password in it, since
            others can read command lines.
        port: None: as at the last start, else a free one.
        timeout_s: how long it may take to answer.

    Raises:
        ServiceError: it isn't installed, the URL holds a password, it ended, or didn't answer in time.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise ServiceError("optuna-dashboard isn't installed: pip install optuna-dashboard.")
    if urllib.parse.urlsplit(storage).password:
        raise ServiceError(
            "The storage's address holds a password, which every user of this machine could read in the dashboard's "
            "command line. Put it in a 0600 file instead: ...?passfile=FILE (see services/README.md)."
        )
    with claimed(_NAME, folder) as claim:
        number = claim.ports(("http",), port)["http"]
        url = f"http://127.0.0.1:{number}"
        program = Path(sys.executable).with_name("optuna-dashboard")
        pid, started = claim.run(
            [str(program), storage, "--host", "127.0.0.1", "--port", str(number), "--server", "wsgiref"],
            ready=lambda: answers(f"{url}/dashboard"),
            timeout_s=timeout_s,
            settings={"storage": storage},
        )
        return Service(_NAME, url, pid, claim.folder, started=started)
