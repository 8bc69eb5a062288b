"""The wire format of protocol buffers: the fields of a message, without its description."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_MAX_VARINT = 10

Span = tuple[int, int]
"""Start and stop of a part of a file."""


def fields(data: bytes, message: Span) -> Iterator[tuple[int, int | Span]]:
    """The fields of a message, in order: their numbers, and an integer, or where a string, bytes or a message lies.

    Numbers of fixed width are skipped.

    Raises:
        ValueError: it isn't a message.
    """
    at, stop = message
    while at < stop:
        start = at
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
        elif kind == _BYTES:
            length, at = _varint(data, at)
            at += length
            if at <= stop:
                yield number, (at - length, at)
        else:
            at += {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, stop - start + 1)
        if at > stop:
            raise ValueError(f"byte {start} isn't in a message that can be read")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, and where it ends."""
    value = 0
    for place, byte in enumerate(data[at : at + _MAX_VARINT]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError(f"byte {at} isn't in a message that can be read")
