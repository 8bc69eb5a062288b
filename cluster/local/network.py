"""The wires: a switch and hosts as network namespaces, joined by a bridge, apart from all other networks.

Namespaces of one cluster begin with its name; what runs in them is found by them, however it was started.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from i2idist.errors import ServiceError

_NETWORKS = ipaddress.ip_network("10.128.0.0/9")
_ENDING_S = 20.0


def free_subnet() -> str:
    """A network of 254 addresses that nothing on this machine is connected to, such as `10.180.7.0/24`."""
    there = [ipaddress.ip_network(route["dst"]) for route in json.loads(_ip("-j", "-4", "route")) if _is_net(route)]
    for _ in range(1000):
        start = int(_NETWORKS.network_address) + 256 * random.randrange(_NETWORKS.num_addresses // 256)
        subnet = ipaddress.ip_network((start, 24))
        if not any(subnet.overlaps(other) for other in there):
            return str(subnet)
    raise ServiceError(f"This machine has routes to all of {_NETWORKS}: no network is left for hosts.")


def _is_net(route: dict[str, str]) -> bool:
    return route["dst"] != "default" and ":" not in route["dst"]


@dataclass(frozen=True)
class Network:
    """The network of one cluster.

    Attributes:
        name: begins the names of its namespaces; at most 12 characters.
        subnet: its addresses; the first is this machine's, those that follow the hosts'.
    """

    name: str
    subnet: str

    def address(self, number: int) -> str:
        """An address by its number; 1 is this machine's, where hosts find the services."""
        return str(ipaddress.ip_network(self.subnet)[number])

    def namespace(self, host: str) -> str:
        """The namespace of a host."""
        return f"{self.name}-{host}"

    @property
    def _switch(self) -> str:
        return self.namespace("sw")

    def create(self) -> None:
        """Make the switch, and this machine's own wire to it, unless they are there."""
        if self._switch in _namespaces() and self.address(1) in _ip("-4", "addr"):
            return
        self.remove()  # what a crash left half made
        _ip("netns", "add", self._switch)
        self._in_switch("link", "add", "br0", "type", "bridge")
        self._in_switch("link", "set", "br0", "up")
        _ip("link", "add", self.name, "type", "veth", "peer", "name", "root", "netns", self._switch)
        self._in_switch("link", "set", "dev", "root", "master", "br0", "up")
        _ip("link", "set", "dev", self.name, "up")
        _ip("addr", "add", f"{self.address(1)}/24", "dev", self.name)

    def attach(self, host: str, number: int) -> None:
        """Make a host's namespace with the address of that number, unless it is there."""
        space = self.namespace(host)
        if space in _namespaces():
            return
        _ip("netns", "add", space)
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", self._switch)
        self._in_switch("link", "set", "dev", host, "master", "br0", "up")
        _ip("-n", space, "link", "set", "dev", "eth0", "up")
        _ip("-n", space, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")

    def plug(self, host: str, connected: bool) -> None:
        """Pull a host's wire out of the switch, or put it back: what is on its way is lost, and nobody is told."""
        self._in_switch("link", "set", "dev", host, "up" if connected else "down")

    def plugged(self, host: str) -> bool:
        """Whether a host's wire is in the switch."""
        found = json.loads(_ip("-n", self._switch, "-j", "link", "show", "dev", host))
        return "UP" in found[0]["flags"]

    def processes(self, host: str | None = None) -> list[int]:
        """Ids of what runs in a host's namespace, or in any of this network's."""
        names = [name for name in _namespaces() if name.startswith(f"{self.name}-")]
        wanted = names if host is None else [self.namespace(host)]
        return [int(pid) for name in wanted if name in names for pid in _ip("netns", "pids", name).split()]

    def end(self, host: str | None = None) -> None:
        """Kill what runs in a host's namespace, or in any of this network's.

        Raises:
            ServiceError: something can't be ended.
        """
        deadline = time.monotonic() + _ENDING_S
        while found := self.processes(host):
            if time.monotonic() > deadline:
                raise ServiceError(f"Processes {found} of {self.name} don't end, though killed.")
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def remove(self) -> None:
        """End what runs in it, and take it all away; what is gone already is no error."""
        self.end()
        if Path("/sys/class/net", self.name).exists():
            _ip("link", "del", self.name)
        for name in _namespaces():
            if name.startswith(f"{self.name}-"):
                _ip("netns", "del", name)

    def _in_switch(self, *arguments: str) -> None:
        _ip("-n", self._switch, *arguments)


def _namespaces() -> list[str]:
    return [line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()]


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ServiceError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
