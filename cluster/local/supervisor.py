"""`python -m cluster.local.supervisor FOLDER`: keeps a cluster's hosts and drivers as the plan says.

A host whose Ray has ended, by whatever cause, is started again; a driver is, until it succeeds. A supervisor that is
started anew after its own death ends what its predecessor left, and starts from the plan.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from cluster.local.host import MARK, environment, exec_command, folder_of, start_command
from cluster.local.plan import Plan, Unit, read_plan, read_units, write_units
from i2idist.errors import ServiceError
from services.processes import find

_PAUSE_S = 0.2
_AGAIN_S = 1.0
"""How long what ended stays down, so that what can't start doesn't take the machine."""


class Supervisor:
    """What keeps one cluster."""

    def __init__(self, folder: Path) -> None:
        """Of the cluster in `folder`."""
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._units: dict[str, Unit] = {}
        self._ended: dict[str, float] = {}

    def run(self) -> None:
        """Go on until killed, or until the cluster is no more."""
        end_units(self._folder)
        write_units(self._folder, {})
        while plan := read_plan(self._folder):
            before = dict(self._units)
            for name, host in plan.hosts.items():
                begun = name in self._running
                self._keep(name, host.up and (host.again or begun), start_command(plan, name), plan, name)
            for name, driver in plan.drivers.items():
                with suppress(ServiceError):  # its host is down: later
                    command = exec_command(driver.host, self._units.get(driver.host), driver.command)
                    self._keep(f"driver {name}", True, command, plan, driver.host)
            if self._units != before:
                write_units(self._folder, self._units)
            time.sleep(_PAUSE_S)

    def _keep(self, unit: str, wanted: bool, command: list[str], plan: Plan, host: str) -> None:
        """Start a unit that shall run and doesn't; kill one that shall not."""
        process = self._running.get(unit)
        if process is not None:
            code = process.poll()
            if code is None:
                if not wanted:
                    process.kill()
                return
            self._over(unit, code)
        known = self._units.get(unit)
        done = known is not None and known.exit_code is not None
        if wanted and not done and time.monotonic() - self._ended.get(unit, -_AGAIN_S) >= _AGAIN_S:
            self._start(unit, command, plan, host)

    def _over(self, unit: str, code: int) -> None:
        del self._running[unit]
        self._ended[unit] = time.monotonic()
        _say(f"{unit} ended with {code}")
        if unit.startswith("driver ") and code == os.EX_OK:
            known = self._units[unit]
            self._units[unit] = Unit(known.pid, known.started, known.starts, code)

    def _start(self, unit: str, command: list[str], plan: Plan, host: str) -> None:
        log = folder_of(self._folder, host) / ("log.txt" if unit == host else f"{unit.replace(' ', '-')}.txt")
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(self._folder, plan, host),
                cwd="/",
                start_new_session=True,
            )
        starts = self._units[unit].starts + 1 if unit in self._units else 1
        self._running[unit] = process
        self._units[unit] = Unit(process.pid, psutil.Process(process.pid).create_time(), starts)
        _say(f"{unit} started as process {process.pid}, start {starts}")


def end_units(folder: Path) -> None:
    """Kill what a supervisor of this cluster has started, and what came of it: it all carries the cluster's mark."""
    for unit in read_units(folder).values():
        found = find(unit.pid, unit.started)
        if found:
            with suppress(psutil.Error):
                found.kill()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(folder):
                process.kill()


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    Supervisor(Path(sys.argv[1])).run()
