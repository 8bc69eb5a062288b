"""Folders that aren't translators, in the model registry: classifiers and semantic extractors."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from i2idist import storage
from i2idist.errors import SourceError
from i2idist.tensors import WeightsName
from i2idist.tracking.fetch import DIGEST, download, location_of
from i2idist.tracking.place import connect, experiment_id, mlflow_errors, tracking_uri
from i2idist.tracking.registry import check_model_name, create_version, pin_version, version_with
from i2idist.tracking.settings import Tracking


def register_folder(folder_url: str, name: str, digest: str, tags: Mapping[str, str], *, uri: str | None = None) -> str:
    """Register a folder of files; the same again under the same name gives the version that it has.

    Args:
        folder_url: the folder, at any storage URL.
        name: the registered model's name, made where absent.
        digest: stands for the whole folder.
        tags: kept with the version.
        uri: the tracking server or database, see `tracking_uri`.

    Returns:
        The version.

    Raises:
        ConfigError: a name that the registry refuses.
        TrackingError: MLflow can't be reached, or refuses.
    """
    check_model_name(name)
    where, labels = tracking_uri(uri), {**tags, DIGEST: digest}
    with mlflow_errors(f"register {folder_url} as '{name}'", where):
        client = connect(where)
        known = version_with(client, name, digest)
        if known is not None:
            return known
        logged = client.create_logged_model(
            experiment_id(client, where, Tracking().experiment), name=name, tags=dict(labels)
        )
        with tempfile.TemporaryDirectory(prefix="i2idist-") as folder:
            for file in storage.list_dir(folder_url):
                Path(folder, file).write_bytes(storage.read_bytes(storage.join(folder_url, file)))
            client.log_model_artifacts(logged.model_id, folder)
        client.finalize_logged_model(logged.model_id, "READY")
        return create_version(client, where, name, str(logged.model_id), None, labels)


def pinned_uri(model_uri: str, *, uri: str | None = None) -> str:
    """`models:/NAME/VERSION` of what may be an alias.

    Raises:
        ConfigError, SourceError: as `pin_version`.
        TrackingError: MLflow can't be reached.
    """
    where = tracking_uri(uri)
    return pin_version(connect(where), where, model_uri)[0]


def fetch_folder(pinned: str, cache: Path, *, uri: str | None = None) -> str:
    """A registered folder on this machine, fetched on first use.

    Args:
        pinned: what `pinned_uri` gave.
        cache: where fetched folders are kept.
        uri: the tracking server or database, see `tracking_uri`.

    Raises:
        SourceError: there is no such version.
        TrackingError: MLflow can't be reached.
    """
    where = tracking_uri(uri)
    client = connect(where)
    with mlflow_errors(f"fetch {pinned}", where):
        location, digest = location_of(client, pinned)
        kept = cache / (digest or pinned.rsplit("/", 1)[-1])
        if not kept.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as folder:
                fetched = download(location, folder, where)
                with suppress(OSError):  # another process put it there meanwhile
                    os.replace(fetched, kept)
    return str(kept)


class Fetched(NamedTuple):
    """Weights from the registry.

    Attributes:
        version: `models:/NAME/VERSION`.
        data: the bytes of the safetensors file.
        card: what the JSON file beside it says.
    """

    version: str
    data: bytes
    card: Mapping[str, Any]


def fetch_weights(model_uri: str, cache: Path, *, uri: str | None = None) -> Fetched:
    """The weights of anything of ours in the registry: a translator, a generator, a classifier, an extractor.

    Args:
        model_uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        cache: where fetched folders are kept.
        uri: the tracking server or database, see `tracking_uri`.

    Raises:
        ConfigError: the URI names no model.
        SourceError: there is no such version, it holds no weights of ours, or they are damaged.
        TrackingError: MLflow can't be reached.
    """
    pinned = pinned_uri(model_uri, uri=uri)
    folder = Path(fetch_folder(pinned, cache, uri=uri))
    own, found = next(_cards(folder), (folder, None))
    if found is None:
        raise SourceError(f"{pinned} holds no weights of i2idist.")
    path = own / found["weights"]
    data = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(data).hexdigest() != found["weights_sha256"]:
        raise SourceError(f"{path}, fetched from {pinned}, is damaged or missing: remove its folder and try again.")
    return Fetched(pinned, data, found)


def _cards(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """JSON files that name a weight file beside them and its digest, each with its folder."""
    named = TypeAdapter(WeightsName)
    for path in sorted(folder.rglob("*.json")):
        with suppress(ValueError, RecursionError, KeyError, TypeError):  # some other JSON
            card = json.loads(path.read_bytes())
            if "weights_sha256" in card and named.validate_python(card["weights"]):
                yield path.parent, card
