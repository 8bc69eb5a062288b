"""One writer for a run folder.

The lease is a series of numbered files; the highest number holds. Taking it means creating the next number, which
storage lets only one process do. The holder rewrites its own file as a heartbeat and looks for a higher number:
finding one, it has lost the lease and must write no more. A lease is free when its holder gave it back, is a dead
process of this host, or has shown no heartbeat for `STALE_S`; for `ENDING_S`, where it is known that its holder is
being ended, by Ray or because its driver is gone.

A launch holds the lease from its first change to the folder: the driver takes it, and the first worker of the same
launch takes it from the driver.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from i2idist import storage
from i2idist.errors import LeaseError, StorageError
from i2idist.launch.processes import Process

HEARTBEAT_S = 5.0
STALE_S = 60.0
ENDING_S = 15.0
_PAUSE_S = 0.5
_PATIENCE_S = 180.0


@dataclass(frozen=True)
class Record:
    """What a lease file says: who holds it, for which launch; a count that every heartbeat raises, and its time."""

    token: str
    session: str
    driver: Process
    holder: Process
    beat: int = 0
    at: float = 0.0
    released: bool = False

    def dump(self) -> bytes:
        """As bytes of JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def load(cls, data: bytes) -> Record:
        """From bytes of JSON."""
        values: dict[str, Any] = json.loads(data)
        people: dict[str, Any] = {name: Process.from_dict(values[name]) for name in ("driver", "holder")}
        return cls(**{**values, **people})

    def free(self) -> bool:
        """Whether it is plain at once that nobody writes under this lease."""
        return self.released or (self.holder.is_here and not self.holder.alive())

    def __str__(self) -> str:
        """The holder, for a message."""
        return f"process {self.holder.pid} on {self.holder.host.split('/')[0]}"


def newest(url: str) -> tuple[int, Record | None]:
    """The highest lease number below `url` and what it says; 0 and None where there is none."""
    number = _highest(url)
    while number:
        try:
            return number, Record.load(storage.read_bytes(_file(url, number)))
        except StorageError:
            if _highest(url) == number:
                raise
            number = _highest(url)  # the next holder deleted the file between listing and reading
    return 0, None


def _highest(url: str) -> int:
    names = (name.removesuffix(".json") for name in storage.list_dir(url))
    return max((int(name) for name in names if name.isdigit()), default=0)


def _held(url: str, record: Record) -> LeaseError:
    name = url.rstrip("/").split("/")[-2]
    return LeaseError(
        f"The run '{name}' is being written by {record} (lease {url}). "
        f"Wait for it, or end it with `i2idist stop {name}`."
    )


def _orphaned(record: Record) -> bool:
    """Whether the holder's driver is gone, so that the holder will be gone soon."""
    return record.driver.is_here and not record.driver.alive()


def _is_ours(record: Record, session: str, driver: Process) -> bool:
    """Whether it is the driver's lease of this launch, which the driver holds for its first worker."""
    return record.session == session and record.holder == driver


def _file(url: str, number: int) -> str:
    return storage.join(url, f"{number:08d}.json")


class _Silence:
    """How long a lease has said the same, for one who looks again and again."""

    def __init__(self) -> None:
        self._latest: Record | None = None
        self._changed = time.monotonic()

    def seconds(self, record: Record) -> float:
        """Note what the lease says now; the seconds since it last said something else."""
        if record != self._latest:
            self._latest, self._changed = record, time.monotonic()
        return time.monotonic() - self._changed


class Watch:
    """Tells a bystander, who asks again and again, when nobody writes the run any more."""

    def __init__(self, url: str, stale_s: float = STALE_S) -> None:
        """Watch the lease files below `url`; one without heartbeat for `stale_s` counts as given up."""
        self._url, self._stale_s = url, stale_s
        self._silence = _Silence()

    def over(self) -> bool:
        """Whether nobody writes. While a dead holder's driver lives, another worker may follow: it is given time."""
        _, record = newest(self._url)
        if record is None or record.released or self._silence.seconds(record) > self._stale_s:
            return True
        return record.free() and record.driver.is_here and not record.driver.alive()


class _Wait:
    """What a waiting process has seen of a lease that somebody else holds."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._first: Record | None = None
        self._begun = time.monotonic()
        self._silence = _Silence()
        self.is_new = False

    def silence_s(self, record: Record) -> float:
        """Note what the lease says now; the seconds since it last said something else."""
        self.is_new = self._first is None or self._first.token != record.token
        if self.is_new:
            self._first, self._begun = record, time.monotonic()
        return self._silence.seconds(record)

    def ending(self, record: Record) -> bool:
        """Whether the holder is being ended: Ray ends a launch's workers before it starts others, or driverless ones.

        It may be writing still. Where it can't be asked, as on a host that is cut off, its lease is waited for.
        """
        return record.session == self._session or _orphaned(record)

    def limit_s(self, record: Record, stale_s: float) -> float:
        """How long the lease counts without heartbeat."""
        return min(ENDING_S, stale_s) if self.ending(record) else stale_s

    def free(self, record: Record, stale_s: float) -> bool:
        """Whether the lease can be taken.

        Of a holder that is being ended, the last heartbeat's own time counts as well: should clocks differ, it finds at
        its next write that the lease was taken, and writes no more.
        """
        silence_s, limit_s = self.silence_s(record), self.limit_s(record, stale_s)
        if self.ending(record) and record.at:
            silence_s = max(silence_s, time.time() - record.at)
        return record.free() or silence_s > limit_s

    def hopeless(self, record: Record) -> bool:
        """Whether a live process holds the lease that won't end by itself.

        A worker of this session, or of a driver that is gone, ends soon: it is given time even while its heart beats.
        """
        if self.ending(record):
            return time.monotonic() - self._begun > _PATIENCE_S
        return record.holder.is_here or record != self._first


class Lease:
    """A lease that this process holds, kept up by a thread until `release`."""

    def __init__(self, url: str, number: int, record: Record) -> None:
        """Made by `acquire`."""
        self._url, self._number, self._record = url, number, record
        self._done = threading.Event()
        self._failure: LeaseError | None = None
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(
        cls, url: str, session: str, driver: Process, say: Callable[[str], None], stale_s: float = STALE_S
    ) -> Lease:
        """Take the lease, waiting for a holder that may be gone.

        Args:
            url: the folder of lease files.
            session: names this launch; a worker's lease of the same session is waited for, since Ray ends that worker,
                and the driver's is taken over.
            driver: the process that launched.
            say: told when and why it waits.
            stale_s: how long a lease without heartbeat counts at most.

        Raises:
            LeaseError: a live process holds it.
        """
        mine = Record(uuid.uuid4().hex, session, driver, Process.current(), at=time.time())
        wait = _Wait(session)
        while True:
            number, record = newest(url)
            if record and record.token == mine.token:
                if number > 1:
                    storage.delete(_file(url, number - 1))
                return cls(url, number, mine)
            if record is None or _is_ours(record, session, driver) or wait.free(record, stale_s):
                storage.create_bytes(_file(url, number + 1), mine.dump())
                continue
            if wait.hopeless(record):
                raise _held(url, record)
            if wait.is_new:
                limit_s = wait.limit_s(record, stale_s)
                say(f"Waiting for {record} to end, or to show no sign of life for {limit_s:.0f} s ...")
            time.sleep(_PAUSE_S)

    def check(self) -> None:
        """Raise if the lease is known to be lost: at once, and as of the latest heartbeat.

        Raises:
            LeaseError: another process took it; this one must write no more.
        """
        if self._failure:
            raise self._failure

    def confirm(self) -> None:
        """Raise if the lease is lost, by asking storage now: for writes that must not come from a former holder.

        Raises:
            LeaseError: another process took it; this one must write no more.
        """
        self._look()
        self.check()

    def release(self) -> None:
        """Give the lease back, if it is still held."""
        self._done.set()
        self._thread.join()
        self._look()
        if not self._failure:
            storage.write_bytes(_file(self._url, self._number), dataclasses.replace(self._record, released=True).dump())

    def _keep(self) -> None:
        while not self._done.wait(HEARTBEAT_S):
            try:
                self._beat()
            except StorageError:
                continue  # without storage nobody else can take the lease either
            if self._failure:
                return

    def _look(self) -> None:
        number, record = newest(self._url)
        if record and number > self._number:
            self._failure = LeaseError(
                f"The lease {self._url} was taken over by {record}: this process writes no more."
            )

    def _beat(self) -> None:
        self._look()
        if self._failure:
            return
        self._record = dataclasses.replace(self._record, beat=self._record.beat + 1, at=time.time())
        storage.write_bytes(_file(self._url, self._number), self._record.dump())
