"""Registered models on this machine: a cache of our model folders, named by the digest of their `model.json`.

That file names the weights by their digest, so the name stands for the whole model, and equal models share a folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from i2idist import storage
from i2idist.errors import SourceError
from i2idist.model import FILE_NAME, read_card
from i2idist.tracking.packaging import FOLDER
from i2idist.tracking.place import mlflow_errors

NAMED = re.compile(r"models:/([^/@]+)(?:@([^/]+)|/([0-9]+))")
LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})")
OF_RUN = re.compile(r"runs:/([0-9a-f]{32})/(.+)")

DIGEST = "model_sha256"
"""The tag of logged models and versions that says what `model_digest` does."""

CACHE_BYTES = 20 * 2**30
"""What the cache may hold: beyond that the least recently used models are dropped."""

_IN_USE_S = 3600.0
"""A model that was asked for so recently may be about to be read."""


def model_digest(model_url: str) -> str:
    """SHA-256 of the `model.json` of a model folder, 64 hexadecimal digits."""
    return hashlib.sha256(storage.read_bytes(storage.join(model_url, FILE_NAME))).hexdigest()


def fetch(client: MlflowClient, pinned: str, uri: str, cache: Path) -> Path:
    """Our model folder, from the cache, fetched from MLflow first if need be; it appears there when it is whole.

    Args:
        client: of MLflow.
        pinned: `models:/NAME/VERSION`, `models:/m-ID` or `runs:/ID/PATH`.
        uri: the tracking server or database.
        cache: the cache's folder.

    Raises:
        SourceError: no such model, or it isn't one of i2idist.
        TrackingError: MLflow can't be reached.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with mlflow_errors(f"fetch {pinned}", uri):
        location, digest = location_of(client, pinned)
    kept = cache / (digest or "unknown")
    if not _is_whole(kept):
        kept = _download(location, pinned, uri, cache)
        with suppress(FileNotFoundError):  # another process makes room too
            _make_room(cache)
    os.utime(kept)
    return kept


def _download(location: str, pinned: str, uri: str, cache: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as folder:
        with mlflow_errors(f"fetch {pinned}", uri):
            fetched = download(location, folder, uri)
        own = _own_folder(fetched, pinned)
        read_card(str(own))
        kept = cache / model_digest(str(own))
        if not _is_whole(kept):
            with suppress(FileNotFoundError):
                os.replace(kept, Path(folder, "harmed"))
            with suppress(OSError):  # another process put it there meanwhile
                os.replace(own, kept)
    return kept


def download(location: str, folder: str, uri: str) -> Path:
    """Fetch what MLflow at `uri` keeps at `location` into `folder`, without MLflow's progress bars."""
    name = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        fetched = mlflow.artifacts.download_artifacts(
            artifact_uri=location, dst_path=folder, tracking_uri=uri, registry_uri=uri
        )
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
    return Path(fetched)


def _is_whole(kept: Path) -> bool:
    """Whether the cache has a model there, as it was put there."""
    if not (kept / FILE_NAME).exists() or model_digest(str(kept)) != kept.name:
        return False
    card = read_card(str(kept))
    weights = kept / card.weights
    if not weights.exists():
        return False
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == card.weights_sha256


def _make_room(cache: Path) -> None:
    """Drop the models that were used longest ago, until the rest keeps to the limit."""
    used = {path: path.stat().st_mtime for path in cache.iterdir()}
    sizes = {path: sum(file.stat().st_size for file in path.rglob("*")) for path in used}
    excess = sum(sizes.values()) - CACHE_BYTES
    for path in sorted(used, key=used.__getitem__):
        if excess <= 0 or time.time() - used[path] < _IN_USE_S:
            return
        shutil.rmtree(path, ignore_errors=True)
        excess -= sizes[path]


def location_of(client: MlflowClient, pinned: str) -> tuple[str, str | None]:
    """Where the files are, and their digest if MLflow has it.

    MLflow would resolve these URIs at its default tracking URI, whatever the client's.
    """
    if named := NAMED.fullmatch(pinned):
        found = str(client.get_model_version_download_uri(named[1], named[3]))
        place = location_of(client, found)[0] if LOGGED.fullmatch(found) else found
        return place, _digest(client.get_model_version(named[1], named[3]).tags)
    if logged := LOGGED.fullmatch(pinned):
        return _place(client.get_logged_model(logged[1]))
    run_id, path = pinned.removeprefix("runs:/").split("/", 1)
    run = client.get_run(run_id)
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    of_name = [model for model in models if model.name == path]
    return _place(of_name[-1]) if of_name else (f"{run.info.artifact_uri}/{path}", None)


def _place(model: LoggedModel) -> tuple[str, str | None]:
    return str(model.artifact_location), _digest(model.tags)


def _digest(tags: Mapping[str, str]) -> str | None:
    """What the tags say; anybody may have edited them."""
    found = tags.get(DIGEST, "")
    return found if re.fullmatch("[0-9a-f]{64}", found) else None


def _own_folder(fetched: Path, pinned: str) -> Path:
    for folder in (fetched / "artifacts" / FOLDER, fetched):
        if (folder / FILE_NAME).exists():
            return folder
    raise SourceError(f"{pinned} is no model of i2idist: it has no {FILE_NAME}.")
