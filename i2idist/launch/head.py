"""A Ray head's job server, as a client sees it: Ray's own client, with its errors in words."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from i2idist.errors import ConfigError, SubmissionError
from i2idist.launch.submission import about_job, refuse_password

_STATES = {"PENDING": "pending", "RUNNING": "running", "SUCCEEDED": "done", "FAILED": "failed", "STOPPED": "stopped"}
_API = "RAY_API_SERVER_ADDRESS"
_CONNECT_S = 5.0
_POLL_S = 1.0
_CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")
"""Ray's loggers that tell of each upload and connection."""
_PATIENCE_S = 30.0
"""How long a head is asked again: one that is away while its logs are followed, or has no agent for a job."""
_NO_AGENT = "No available agent"
"""How Ray's answer begins, after it waited some seconds for one."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of ours, as the cluster knows it.

    Attributes:
        id: its submission id.
        about: what `Submission.metadata` said.
        state: pending, running, done, failed or stopped.
        exit_code: of its driver, once that ended by itself.
        error: what it failed with.
        started: when it was submitted.
        ended: when it ended.
    """

    id: str
    about: Mapping[str, str]
    state: str
    exit_code: int | None
    error: str | None
    started: datetime | None
    ended: datetime | None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state not in ("pending", "running")


def given_address(address: str | None) -> str:
    """The job server's address: as given, else `RAY_API_SERVER_ADDRESS`, else a `RAY_ADDRESS` that is a URL.

    Raises:
        ConfigError: there is none, or it is no address of a job server.
    """
    elsewhere = os.environ.get("RAY_ADDRESS", "")
    found = address or os.environ.get(_API) or (elsewhere if elsewhere.startswith("http") else "")
    if not found:
        raise ConfigError(
            f"Which cluster? Give --address http://HEAD:8265, the address of its dashboard, or set {_API} to it."
        )
    refuse_password(found, "The address")
    found = found if "://" in found else f"http://{found}"
    if not found.startswith(("http://", "https://")) or not urlsplit(found).hostname:
        raise ConfigError(f"{found} is no address of a Ray dashboard, which looks like http://HEAD:8265.")
    return found.rstrip("/")


def is_loopback(address: str) -> bool:
    """Whether an address from `given_address` is this machine's own."""
    host = urlsplit(address).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class Head:
    """The job server of a cluster. Every method raises `SubmissionError` where it can't be reached, or refuses."""

    def __init__(self, address: str, token_file: str | None = None) -> None:
        """Connect.

        Args:
            address: from `given_address`.
            token_file: a private file that holds the cluster's token; None: as Ray finds it, if it needs one.

        Raises:
            SubmissionError: nobody listens there, the token is wrong, or it runs another version of Ray.
        """
        self.address = address
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        headers = {"Authorization": f"Bearer {_token(token_file)}"} if token_file else None
        self._reach()
        with self._errors("What answers at {} is no Ray dashboard:"), _no_other_address(address):
            self._client = JobSubmissionClient(address, headers=headers)
        there = self._client._server_ray_version  # asked for when it connected
        if there != ray.__version__:
            raise SubmissionError(
                f"The head at {address} runs Ray {there}, and this is Ray {ray.__version__}. "
                "Install the same version on both."
            )

    def submit(self, id: str, entrypoint: str, runtime_env: dict[str, Any], metadata: dict[str, str]) -> None:
        """Submit a job; see `Submission`. A head that has just started may have no agent yet, who would take it."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with self._errors():
                    self._client.submit_job(
                        entrypoint=entrypoint, submission_id=id, runtime_env=runtime_env, metadata=metadata
                    )
                return
            except SubmissionError as error:
                if _NO_AGENT not in str(error) or time.monotonic() > deadline:
                    raise

    def jobs(self) -> list[Job]:
        """Every job that was submitted by i2idist, the newest first."""
        with self._errors():
            found = [_job(details) for details in self._client.list_jobs() if details.submission_id]
        ours = [job for job in found if job.about]
        return sorted(ours, key=lambda job: str(job.started), reverse=True)

    def job(self, id: str) -> Job | None:
        """The job of a submission id; None where there is none."""
        with self._errors():
            try:
                return _job(self._client.get_job_info(id))
            except RuntimeError as error:
                if "status code 404" not in str(error):
                    raise
                return None

    def logs(self, id: str) -> str:
        """What a job has written so far."""
        with self._errors():
            return str(self._client.get_job_logs(id))

    def stop(self, id: str) -> None:
        """Let Ray end a job: SIGTERM, and SIGKILL a few seconds later."""
        with self._errors():
            self._client.stop_job(id)

    def wait(self, id: str, timeout_s: float, meanwhile: Callable[[], object] = lambda: None) -> Job:
        """The job once it has ended, or as it is after `timeout_s`.

        Args:
            id: its submission id.
            timeout_s: how long to wait.
            meanwhile: called again and again.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            job = self.job(id)
            if job is None:
                raise SubmissionError(f"The head at {self.address} doesn't know the job '{id}' any more.")
            if job.over or time.monotonic() > deadline:
                return job
            meanwhile()
            time.sleep(_POLL_S / 2)

    def follow(self, id: str, write: Callable[[str], object]) -> Job:
        """Pass on what a job writes, from its beginning, until it ends; the job as it ended.

        A connection that breaks is made again, and goes on where it broke.
        """
        seen, deadline = 0, time.monotonic() + _PATIENCE_S
        while True:
            before = seen
            try:
                for text in _pieces(self._client, id, seen):
                    seen += len(text)
                    write(text)
                job = self.wait(id, 0.0)
                if job.over:
                    return job
            except (aiohttp.ClientError, OSError, RuntimeError, SubmissionError) as error:
                if time.monotonic() > deadline:
                    raise SubmissionError(f"The head at {self.address} doesn't answer any more: {error}") from error
            if seen > before:
                deadline = time.monotonic() + _PATIENCE_S
            time.sleep(_POLL_S)

    def _reach(self) -> None:
        """Fail at once where nobody listens: Ray's client has no time limit."""
        url = urlsplit(self.address)
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            socket.create_connection((url.hostname or "", port), timeout=_CONNECT_S).close()
        except OSError as error:
            raise SubmissionError(
                f"Nothing answers at {self.address}: {error}. Is the head running, with its dashboard, and is this its "
                "port (8265 by default)?"
            ) from error

    @contextmanager
    def _errors(self, otherwise: str = "The head at {} refuses:") -> Iterator[None]:
        try:
            yield
        except AuthenticationError as error:
            problem = "refuses the token" if "Invalid authentication token" in str(error) else "asks for a token"
            raise SubmissionError(
                f"The head at {self.address} {problem}. Give --token-file FILE, or set RAY_AUTH_TOKEN_PATH, to a file "
                "that holds the cluster's token."
            ) from error
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise SubmissionError(f"{otherwise.format(self.address)} {_first_line(error)}") from error


@contextmanager
def _no_other_address(address: str) -> Iterator[None]:
    """Ray lets its environment variables win over the address that it is given."""
    before = os.environ.get(_API)
    os.environ[_API] = address
    try:
        yield
    finally:
        os.environ.pop(_API)
        if before is not None:
            os.environ[_API] = before


def _token(file: str) -> str:
    path = Path(file).expanduser()
    try:
        mode, token = path.stat().st_mode, path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The token file {path} can't be read: {error}.") from error
    if mode & 0o077:
        raise ConfigError(f"The token file {path} can be read by others, so its token is no secret: chmod 600 {path}.")
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(f"The token file {path} holds no token.")
    return token


def _job(details: Any) -> Job:
    status = details.status.value
    return Job(
        id=details.submission_id,
        about=about_job(details.metadata or {}),
        state=_STATES[status],
        exit_code=details.driver_exit_code,
        error=_error(details.message or "") if status == "FAILED" else None,
        started=_moment(details.start_time),
        ended=_moment(details.end_time),
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _error(message: str) -> str:
    """What the command said last, where it ended by an error on purpose; else what Ray says, without the log."""
    said = [line for line in message.splitlines() if line.startswith("Error: ")]
    return said[-1].removeprefix("Error: ") if said else message.partition(", last available logs")[0].strip()


def _first_line(error: Exception) -> str:
    """An answer's own words: the last line of a traceback, else the first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if any(line.startswith("Traceback") or "Traceback (" in line for line in lines) else lines[0]


def _pieces(client: JobSubmissionClient, id: str, skip: int) -> Iterator[str]:
    """What a job writes, without the first `skip` characters, until the server ends the connection."""
    pieces = client.tail_job_logs(id)

    async def following() -> str | None:
        return await anext(pieces, None)

    with asyncio.Runner() as runner:
        while (text := runner.run(following())) is not None:
            skipped = min(skip, len(text))
            skip -= skipped
            if text[skipped:]:
                yield text[skipped:]
