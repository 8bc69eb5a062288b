"""Where a service listens: loopback, or one address of this machine, to which other hosts come."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from i2idist.errors import ServiceError

LOOPBACK = "127.0.0.1"


def checked(host: str) -> str:
    """`host`, if this machine can listen on it and clients can find it there.

    Raises:
        ServiceError: it is no IPv4 address, stands for all addresses, or is another machine's.
    """
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise ServiceError(
            f"'{host}' is no IPv4 address: give one of this machine's ({', '.join(_addresses())})."
        ) from None
    if address.is_unspecified or address.is_multicast:
        raise ServiceError(
            f"{host} isn't one address, and clients must be told one: give one of this machine's "
            f"({', '.join(_addresses())}), of a network that you trust."
        )
    with socket.socket() as tried:
        try:
            tried.bind((host, 0))
        except OSError as error:
            raise ServiceError(
                f"This machine can't listen on {host}: {error.strerror}. It has {', '.join(_addresses())}."
            ) from None
    return host


def is_exposed(host: str) -> bool:
    """Whether others than this machine's own users reach what listens on `host`."""
    return not ipaddress.IPv4Address(host).is_loopback


def interface(host: str) -> str:
    """The name of the network interface that has the address `host`."""
    if not is_exposed(host):
        return "lo"
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.family == socket.AF_INET and each.address == host for each in addresses):
            return name
    raise ServiceError(f"No network interface of this machine has the address {host}.")


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on `port` of `host`."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError:
            return False
    return True


def _addresses() -> list[str]:
    found = [each.address for name in psutil.net_if_addrs().values() for each in name if each.family == socket.AF_INET]
    return sorted(found)
