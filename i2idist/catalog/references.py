"""What runs, models and translations say about themselves: read from where they are, never copied to the catalog.

Each function gives a `Link`: facts by name, or the problem that keeps them from being read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from i2idist import storage
from i2idist.catalog.places import is_place
from i2idist.errors import CatalogError, I2IError, ManifestError, SourceError, StorageError, nearest
from i2idist.recipe import parse_yaml

_OF_MODELS = ("run", "run_url", "checkpoint", "dataset_digest", "mlflow_run_id")
"""What `model.json` may say of where the weights came from."""
_OF_JOBS = {"digest", "model", "dataset_url", "dataset_digest", "options"}
"""What `job.json` says of a translation, among else."""


@dataclass(frozen=True)
class Link:
    """One thing in a lineage.

    Attributes:
        kind: image, translation, model, run or dataset.
        name: what it is called.
        facts: what is known of it, JSON-able.
        problem: why more isn't, for a person.
    """

    kind: str
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": self.kind, "name": self.name, **self.facts} | (
            {"problem": self.problem} if self.problem else {}
        )


def last(url: str) -> str:
    """The last part of a URL."""
    return url.rstrip("/").rsplit("/", 1)[-1]


def _followed(kind: str, name: str, facts: dict[str, Any], read: Callable[[], Mapping[str, Any]]) -> Link:
    """A link whose further facts are read; what can't be read, or isn't what it should be, is its problem."""
    try:
        return Link(kind, name, {**facts, **read()})
    except I2IError as error:
        return Link(kind, name, facts, str(error))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Link(kind, name, facts, f"Its files are damaged ({type(error).__name__}: {error}).")


def _json(*place: str) -> dict[str, Any] | None:
    where = storage.join(*place)
    if not storage.exists(where):
        return None
    found: dict[str, Any] = json.loads(storage.read_bytes(where))
    return found


def is_run(url: str) -> bool:
    """Whether a run's folder is at `url`."""
    return is_place(url) and storage.exists(storage.join(url, "experiment.yaml"))


def is_model(url: str) -> bool:
    """Whether a model's folder is at `url`."""
    return is_place(url) and storage.exists(storage.join(url, "model.json"))


def run_link(url: str) -> Link:
    """The run in a folder: its config, code revision, dataset digest, MLflow run, and how it stands."""
    return _followed("run", last(url), {"url": url}, lambda: _run(url))


def _run(url: str) -> dict[str, Any]:
    header, _, body = storage.read_bytes(storage.join(url, "experiment.yaml")).decode().partition("\n")
    config = parse_yaml(body, url)
    record, result = _json(url, "run.json") or {}, _json(url, "result.json") or {}
    launches = record.get("launches") or [{}]
    facts = launches[-1].get("facts", {})
    return {
        "experiment_digest": header.rpartition(" ")[2],
        "method": config["method"]["name"],
        "config": config,
        "code": facts.get("code"),
        "versions": facts.get("versions"),
        "launches": len(record.get("launches", [])),
        "dataset_url": config["data"]["url"],
        "dataset_digest": record.get("data_digest"),
        "ended": result.get("stopped"),
        "images": result.get("images"),
        "checkpoint": result.get("checkpoint"),
        "mlflow_run_id": result.get("mlflow_run_id"),
    }


def model_link(uri: str, version: str | None = None) -> Link:
    """A registered or saved model: its folder, weights, and the run that made it, as its `model.json` says.

    Args:
        uri: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/...`, or a folder.
        version: what an alias meant at the time.
    """
    name, separator, _ = uri.removeprefix("models:/").partition("@")
    pinned = f"models:/{name}/{version}" if uri.startswith("models:/") and separator and version else uri
    facts = {"uri": pinned, "version": version} if version else {"uri": pinned}
    return _followed("model", pinned if not is_place(uri) else last(uri), facts, lambda: _model(pinned))


def _model(uri: str) -> dict[str, Any]:
    folder, registered = (uri, {}) if is_place(uri) else _resolved(uri)
    card = _json(folder, "model.json")
    if card is None:
        raise SourceError(f"There is no model at {folder} any more.")
    lineage = card.get("lineage") or {}
    own = {key: lineage[key] for key in _OF_MODELS if lineage.get(key)}
    return {
        "folder": folder,
        "method": card["method"],
        "weights_sha256": card["weights_sha256"],
        **own,
        **registered,
    }


def _resolved(uri: str) -> tuple[str, dict[str, Any]]:
    """The folder of a registered model, and what the registry knows."""
    from i2idist.tracking.registry import resolve

    found = resolve(uri)
    known = {"uri": found.uri, "registered": found.name, "version": found.version, "mlflow_run_id": found.run_id}
    return found.folder_url, {key: value for key, value in known.items() if value}


def check_key(shard_url: str, member: str) -> str | None:
    """Refuse an image that its shard doesn't hold.

    Args:
        shard_url: a tar file with its index beside it.
        member: a sample's key, or the name of one of its files in the tar.

    Returns:
        Why it can't be told, if it can't.

    Raises:
        CatalogError: the shard holds no such sample.
    """
    try:
        index = _json(f"{shard_url.removesuffix('.tar')}.json")
        keys = index["keys"] if index else None
    except StorageError as error:
        return str(error)
    except (ValueError, KeyError, TypeError) as error:
        return f"The index of {shard_url} is damaged ({type(error).__name__}: {error})."
    if keys is None:
        return f"{shard_url} is there no more."
    key = member.partition(".")[0]  # keys hold no dot
    if key in keys:
        return None
    close = nearest(key, keys)
    raise CatalogError(f"{shard_url} holds no image '{key}'.{'' if close.startswith(' Known') else close}")


def translation_job(url: str) -> dict[str, Any] | None:
    """What the translation in a folder says of itself; None where there is none, or another's file of that name."""
    try:
        found = _json(url, "job.json")
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.keys() >= _OF_JOBS else None


def dataset_link(url: str) -> Link | None:
    """The dataset in a folder; None where there is none, or another's file of that name."""
    if not storage.exists(storage.join(url, "manifest.json")):
        return None
    from i2idist.data.manifest import load_manifest  # brings torch

    try:
        found = load_manifest(url)
    except ManifestError:
        return None
    return Link("dataset", found.name, {"url": url, "digest": found.digest, "role": found.role, "counts": found.counts})
