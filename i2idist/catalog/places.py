"""URLs in one spelling, so that the same place is found by whatever name it was given."""

from __future__ import annotations

import re

from i2idist import storage

_NO_PLACE = re.compile(r"[a-z][a-z0-9+.-]*:(?!//)")


def is_place(uri: str) -> bool:
    """Whether `uri` is a path or a storage URL, and not `models:/...`, `runs:/...` or `generated:...`."""
    return not _NO_PLACE.match(uri)


def place(uri: str) -> str:
    """Local paths absolute, without `file://`; no slash at the end; anything else as it is."""
    if not is_place(uri):
        return uri
    return str(storage.local_path(uri).resolve()) if storage.is_local(uri) else uri.rstrip("/")


def ancestors(uri: str) -> list[str]:
    """`uri` and the folders above it, the longest first."""
    scheme, separator, path = uri.rpartition("://")
    parts = path.split("/")
    paths = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    return [f"{scheme}{separator}{path}" for path in paths if path]
