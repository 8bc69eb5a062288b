"""State that a run starts from: found and pinned by digest when the run is created, read and checked when it starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import safetensors.torch
from torch import Tensor

from i2idist import model, storage, weights
from i2idist.data.cache import default_folder
from i2idist.errors import SourceError
from i2idist.experiment import Experiment, Source
from i2idist.method import Described
from i2idist.tensors import parse_tensors
from i2idist.tracking.settings import located
from i2idist.train.checkpoint import Checkpoints

_TENSORS, _COMMIT = "state.safetensors", "COMMIT.json"
_REGISTERED, _PUBLISHED = "models:/", "weights:"
_COPIES = ".sources"
"""The folder beside the runs that holds copies of what isn't in storage, named by digest: every worker reaches it."""


def pin_sources(experiment: Experiment, root: str) -> Experiment:
    """Find what the experiment starts from, and note its URL and digest.

    Args:
        experiment: as read from a recipe.
        root: where runs are, for sources that are runs.

    Raises:
        SourceError: a source is absent.
        TrackingError: one is registered, and MLflow can't be reached.
    """
    tracking, first = experiment.tracking.uri, experiment.init_from
    return dataclasses.replace(
        experiment,
        init_from=first and _pinned(first, root, tracking, "init_from"),
        sources={
            name: _pinned(source, root, tracking, f"sources.{name}") for name, source in experiment.sources.items()
        },
    )


def adopt_pins(experiment: Experiment, stored: Experiment) -> Experiment:
    """An experiment with whatever it leaves open taken from the run's stored one."""
    first = experiment.init_from
    return dataclasses.replace(
        experiment,
        init_from=first and _adopted(first, stored.init_from),
        sources={name: _adopted(source, stored.sources.get(name)) for name, source in experiment.sources.items()},
    )


def _adopted(source: Source, stored: Source | None) -> Source:
    is_same = stored is not None and stored.uri == source.uri and source.sha256 in (None, stored.sha256)
    return stored if stored and is_same else source


def is_named(uri: str) -> bool:
    """Whether a source is a name, of a registered model or of published weights, and no place in storage."""
    return uri.startswith((_REGISTERED, _PUBLISHED))


def _pinned(source: Source, root: str, tracking: str | None, key: str) -> Source:
    if source.url and source.sha256:
        return source
    version, described = None, None
    if is_named(source.uri):
        url, version, described = _copied(source.uri, root, tracking)
    else:
        url, described = (source.url, None) if source.url else _find(source.uri, root, key)
    url = _absolute(url)
    digest = _digest(url, key)
    if source.sha256 not in (None, digest):
        raise SourceError(
            f"{key}: {url} has SHA-256 {digest}, not {source.sha256} as the recipe says. "
            "Get the right file, or change the digest."
        )
    return Source(uri=source.uri, url=url, sha256=digest, version=version, model=described)


def _copied(uri: str, root: str, tracking: str | None) -> tuple[str, str | None, Described | None]:
    """The URL of a copy beside the runs, made on first use; the version that the name stands for; what it is."""
    version, described = None, None
    if uri.startswith(_REGISTERED):
        from i2idist.tracking.folders import fetch_weights  # MLflow takes seconds to import

        cache = default_folder().parent / "sources"
        version, data, card = fetch_weights(uri, cache, uri=located(tracking, root))
        described = model.described(card)
    else:
        name = uri.removeprefix(_PUBLISHED)
        tensors = weights.read(name, f"the source {uri}")
        data = safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()})
    url = storage.join(root, _COPIES, f"{hashlib.sha256(data).hexdigest()}.safetensors")
    if not storage.exists(url):
        storage.write_bytes(url, data)
    return url, version, described


def _absolute(url: str) -> str:
    """Local paths absolute: workers, and those who continue the run, may stand elsewhere."""
    return str(storage.local_path(url).resolve()) if storage.is_local(url) else url


def _find(uri: str, root: str, key: str) -> tuple[str, Described | None]:
    """The safetensors file, a saved model's with what it is; or the checkpoint folder: the newest one of a run."""
    if uri.endswith(".safetensors") or storage.exists(storage.join(uri, _COMMIT)):
        return uri, None
    if storage.exists(storage.join(uri, model.FILE_NAME)):
        card = model.read_card(uri)
        return storage.join(uri, card.weights), model.described(vars(card))
    run = uri if "/" in uri else storage.join(root, uri)
    checkpoints = Checkpoints(storage.join(run, "checkpoints"))
    names = checkpoints.names()
    if not names:
        raise SourceError(
            f"{key}: '{uri}' is no safetensors file, no saved model, no checkpoint, and no run in {root} that has a "
            "checkpoint."
        )
    return checkpoints.url(names[-1]), None


def _digest(url: str, key: str) -> str:
    if not url.endswith(".safetensors"):
        commit = json.loads(storage.read_bytes(storage.join(url, _COMMIT)))
        return str(commit["files"][_TENSORS]["sha256"])
    if not storage.exists(url):
        raise SourceError(f"{key}: there is no file {url}.")
    return hashlib.sha256(storage.read_bytes(url)).hexdigest()


def load_source(source: Source) -> dict[str, Tensor]:
    """The tensors of a pinned source, by name: a method's state where it is a checkpoint.

    Raises:
        SourceError: the file is gone, damaged, or no longer the one that was pinned.
    """
    assert source.url and source.sha256, "sources are pinned when a run is created"
    is_file = source.url.endswith(".safetensors")
    data = storage.read_bytes(source.url if is_file else storage.join(source.url, _TENSORS))
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise SourceError(
            f"{source.url} changed since this run was created: its SHA-256 is {found}, not {source.sha256}."
        )
    tensors = parse_tensors(data, source.url)
    prefix = "" if is_file else "method."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
