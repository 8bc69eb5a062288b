"""Server processes: started in a session of their own, found and ended by id and start time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_MARK = "I2IDIST_SERVICE"
"""Variable of a server and its children: the folder that they serve."""

_HARMLESS = {"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"}
_PAUSE_S = 0.1


def spawn(
    command: Sequence[str], folder: Path, log: Path, added: Mapping[str, str], user: str | None
) -> tuple[int, float]:
    """Start a process in a session of its own: it outlives this one, and hears no signal of its terminal.

    Args:
        command: its command line.
        folder: what it serves and works in.
        log: where its output is appended.
        added: to this process's environment.
        user: whom it runs as, None for this process's user.

    Returns:
        Its id and start, for `find` and `end`.
    """
    # These servers talk to loopback in plain HTTP; a bundle of certificates in the environment makes S3 clients fail.
    dropped = {"AWS_CA_BUNDLE"}
    if "AWS_SHARED_CREDENTIALS_FILE" in added:  # which keys in the environment would win over
        dropped |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"}
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    if user:  # whose other processes could read what we have in ours
        inherited = {name: value for name, value in inherited.items() if name in _HARMLESS}
    environment = {**inherited, **added, _MARK: str(folder)}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=environment,
            start_new_session=True,
            user=user,
            group=user and _group_of(user),
            extra_groups=[] if user else None,
        )
    return process.pid, psutil.Process(process.pid).create_time()


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def find(pid: int, started: float) -> psutil.Process | None:
    """The process, unless it ended."""
    with suppress(psutil.Error):
        found = psutil.Process(pid)
        # /proc gives start times in ticks of 10 ms.
        if abs(found.create_time() - started) < 0.05 and _runs(found):
            return found
    return None


def _runs(process: psutil.Process) -> bool:
    """Whether it hasn't ended; a child of this process that has is reaped on the way."""
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    with suppress(psutil.Error):
        # A zombie's other threads may still be ending, and hold its ports until then.
        return process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    return False


def end(pid: int, started: float, number: int, grace_s: float) -> None:
    """Signal a process; when it is gone, or after `grace_s`, kill what is left of it and its children."""
    found = find(pid, started)
    if found is None:
        return
    family = [found]
    with suppress(psutil.Error):
        family += found.children(recursive=True)
        found.send_signal(number)
    if number != signal.SIGKILL:
        _await_end([found], grace_s)
    for process in family:
        with suppress(psutil.Error):
            process.kill()
    _await_end(family, grace_s)


def _await_end(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    """Wait until none of them runs. Orphans that init is slow to reap have ended: psutil would wait for init."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.01
    while any(map(_runs, processes)) and time.monotonic() < deadline:
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S)


def end_leftovers(folder: Path, grace_s: float) -> None:
    """End children that outlived a server of this folder: they hold its ports and files."""
    found = [process for process in psutil.process_iter() if process.pid != os.getpid() and _is_of(process, folder)]
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    _await_end(found, grace_s)


def _is_of(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error):
        return process.environ().get(_MARK) == str(folder)
    return False
