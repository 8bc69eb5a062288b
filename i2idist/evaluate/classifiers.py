"""Classifiers that protocols read translations with: trained on real images, saved, pinned by digest.

```
classifier.json              what it was trained on, how well it reads the held-out split, the weight file's digest
weights-<digest>.safetensors
```
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic
import safetensors.torch
import torch
from torch import Tensor

from i2idist import storage
from i2idist.data.cache import default_folder
from i2idist.data.generated import resolve
from i2idist.data.labelled import read_labelled
from i2idist.data.manifest import Manifest, load_manifest
from i2idist.data.settings import DataSettings
from i2idist.errors import ConfigError, SourceError
from i2idist.method import Domain
from i2idist.metrics.classifier import Classifier, attribute_agreement, label_agreement, train_classifier
from i2idist.tensors import WeightsName, parse_tensors
from i2idist.train.precision import threads

FORMAT_VERSION = 2
FILE_NAME = "classifier.json"
TRAINED_ON, HELD_OUT = "train", "test"
EPOCHS = 3


@dataclass(frozen=True)
class ClassifierCard:
    """What `classifier.json` says.

    Attributes:
        format_version: of the folder.
        dataset: the dataset's name.
        dataset_digest: its digest.
        domains: whose images it was trained on.
        size: (height, width) of the images that it was trained on.
        channels: of its images.
        kind: whether it tells classes apart, or says of each attribute whether it is there.
        labels: names of the classes, or attributes.
        epochs: passes over the training split.
        seed: of training.
        accuracy: on the held-out split, the mean over attributes; None where the dataset has none.
        accuracies: of each attribute.
        weights: the weight file's name.
        weights_sha256: its digest, the classifier's version.
    """

    format_version: int
    dataset: str
    dataset_digest: str
    domains: tuple[str, ...]
    size: tuple[int, int]
    channels: int
    kind: Literal["class", "attributes"]
    labels: tuple[str, ...]
    epochs: int
    seed: int
    accuracy: float | None
    accuracies: Mapping[str, float]
    weights: WeightsName
    weights_sha256: str


@dataclass(frozen=True)
class Pinned:
    """A classifier as a value's record names it, and its weights, since workers elsewhere may not see its folder.

    Attributes:
        url: its folder, or `models:/NAME/VERSION`.
        card: what is known of it.
        weights: its safetensors file.
    """

    url: str
    card: ClassifierCard
    weights: bytes = field(repr=False)

    def describe(self) -> dict[str, Any]:
        """As JSON: enough to know it again, and how far to trust it."""
        card = self.card
        return {
            "version": card.weights_sha256,
            "dataset_digest": card.dataset_digest,
            "domains": list(card.domains),
            "size": list(card.size),
            "kind": card.kind,
            "labels": list(card.labels),
            "accuracy": card.accuracy,
            "accuracies": dict(card.accuracies),
            "url": self.url,
        }


def train(
    dataset_url: str,
    domains: Sequence[Domain],
    dest: str,
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: Callable[[float], None] = lambda done: None,
) -> ClassifierCard:
    """Train a classifier on the training split of a labelled dataset, and save it.

    It computes with one thread, so that the cores of a machine don't change it.

    Args:
        dataset_url: a packed dataset with classes or attributes.
        domains: whose images; all at the first one's size, in as many channels as the most of them have. They are held
            in memory.
        dest: the folder to write, at any storage URL.
        epochs: passes over the split.
        seed: of initial weights and order.
        progress: told the fraction done.

    Raises:
        ConfigError: the dataset has no labels, no such domain, or attributes that are neither 0 nor 1.
        DataError, StorageError: data that can't be read, or a refused write.
    """
    manifest = load_manifest(dataset_url)
    kind = label_kind(manifest)
    with threads(1):
        x, y = _images(dataset_url, domains, TRAINED_ON)
        classifier = train_classifier(x, y, epochs=epochs, seed=seed, classes=len(manifest.labels), progress=progress)
        accuracy: float | None = None
        accuracies: dict[str, float] = {}
        if HELD_OUT in manifest.splits:
            accuracy, accuracies = _agreement(classifier, *_images(dataset_url, domains, HELD_OUT), manifest.labels)
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in classifier.state_dict().items()})
    digest = hashlib.sha256(data).hexdigest()
    card = ClassifierCard(
        format_version=FORMAT_VERSION,
        dataset=manifest.name,
        dataset_digest=manifest.digest,
        domains=tuple(domain.name for domain in domains),
        size=(domains[0].height, domains[0].width),
        channels=x.shape[1],
        kind=kind,
        labels=manifest.labels,
        epochs=epochs,
        seed=seed,
        accuracy=accuracy,
        accuracies=accuracies,
        weights=f"weights-{digest[:16]}.safetensors",
        weights_sha256=digest,
    )
    storage.write_bytes(storage.join(dest, card.weights), data)
    storage.write_bytes(storage.join(dest, FILE_NAME), json.dumps(dataclasses.asdict(card), indent=2).encode())
    return card


def label_kind(manifest: Manifest) -> Literal["class", "attributes"]:
    """What a classifier of a dataset reads.

    Raises:
        ConfigError: the dataset has no labels.
    """
    if manifest.label_kind == "none":
        raise ConfigError(f"Dataset {manifest.name} has no classes or attributes: no classifier can be trained on it.")
    return manifest.label_kind


def _agreement(classifier: Classifier, x: Tensor, y: Tensor, labels: Sequence[str]) -> tuple[float, dict[str, float]]:
    if y.dim() == 1:
        return label_agreement(classifier, x, y), {}
    shares = attribute_agreement(classifier, x, y)
    return float(shares.mean()), dict(zip(labels, shares.tolist(), strict=True))


def _images(url: str, domains: Sequence[Domain], split: str) -> tuple[Tensor, Tensor]:
    """All images of a split, (N, C, H, W) float in [-1, 1], and their classes, (N,), or attributes, (N, A)."""
    settings = DataSettings(url=url, size=(domains[0].height, domains[0].width))
    found = [read_labelled(settings, domain.name, split) for domain in domains]
    channels = max(part.x.shape[1] for part in found)
    if any(part.x.shape[1] not in (1, channels) for part in found):
        raise ConfigError(f"One classifier can't read images of {[d.channels for d in domains]} channels: name one.")
    y = torch.cat([part.y for part in found])
    if y.dim() == 2 and not ((y == 0) | (y == 1)).all():
        raise ConfigError(f"Attributes in {url} are neither 0 nor 1: a classifier says yes or no to each.")
    return torch.cat([part.x.expand(-1, channels, -1, -1) for part in found]), y


def domains_of(dataset_url: str, names: Sequence[str], size: tuple[int, int] | str) -> tuple[str, tuple[Domain, ...]]:
    """The folder of a dataset, generated where it is named so, and some of its domains at a size.

    Raises:
        ConfigError: no such domain, or images that differ in size without one to resize to.
        DataError, StorageError: data that can't be read.
    """
    url = resolve(dataset_url)
    wanted = size if isinstance(size, tuple) else None
    return url, load_manifest(url).domains_for(wanted, names).images


def register(url: str, name: str, *, tracking_uri: str | None = None) -> str:
    """Register the classifier that `train` saved at `url`; one that is registered so already keeps its version.

    Returns:
        The version.

    Raises:
        SourceError: there is no classifier.
        TrackingError: MLflow can't be reached, or refuses.
    """
    from i2idist.tracking.folders import register_folder  # MLflow takes seconds to import

    card = pin(url).card
    tags = {"kind": "classifier", "domains": ",".join(card.domains), "dataset_digest": card.dataset_digest}
    return register_folder(url, name, card.weights_sha256, tags, uri=tracking_uri)


def _folder_of(url: str) -> str:
    """The folder of a classifier; a registered one is fetched on first use."""
    if not url.startswith("models:/"):
        return url
    from i2idist.tracking.folders import fetch_folder

    return fetch_folder(url, default_folder().parent / "classifiers")


def pin(url: str) -> Pinned:
    """The classifier that `train` saved at `url`, or that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names now.

    Raises:
        TrackingError: MLflow can't be reached.
        SourceError: there is none, or it is damaged.
        StorageError: storage can't be reached.
    """
    if url.startswith("models:/"):
        from i2idist.tracking.folders import pinned_uri

        url = pinned_uri(url)
    folder = _folder_of(url)
    where = storage.join(folder, FILE_NAME)
    if not storage.exists(where):
        raise SourceError(f"There is no classifier at {url}: no {FILE_NAME}. Train one with `i2idist classifier`.")
    try:
        card = pydantic.TypeAdapter(ClassifierCard).validate_json(storage.read_bytes(where))
    except pydantic.ValidationError as error:
        raise SourceError(f"{where} is damaged: {error}") from error
    if card.format_version != FORMAT_VERSION:
        raise SourceError(f"{where} has format version {card.format_version}; this i2idist reads {FORMAT_VERSION}.")
    return Pinned(url, card, _weights(storage.join(folder, card.weights), card.weights_sha256))


def _weights(where: str, sha256: str) -> bytes:
    data = storage.read_bytes(where) if storage.exists(where) else b""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise SourceError(f"{where} is damaged or missing: SHA-256 {found}, expected {sha256}.")
    return data


def load(pinned: Pinned) -> Classifier:
    """The network, in evaluation mode without gradients.

    Raises:
        SourceError: its weights don't fit its card.
    """
    where = storage.join(pinned.url, pinned.card.weights)
    classifier = Classifier(pinned.card.channels, len(pinned.card.labels))
    try:
        classifier.load_state_dict(parse_tensors(pinned.weights, where))
    except RuntimeError as error:  # names or shapes
        raise SourceError(f"{where} doesn't fit its card: {error}") from error
    return classifier.eval().requires_grad_(False)


def of_domains(
    dataset_url: str,
    domains: Sequence[Domain],
    say: Callable[[str], None] = lambda message: None,
    cache: str | None = None,
) -> Pinned:
    """The classifier of some domains of a dataset, trained on first use.

    Args:
        dataset_url: a packed dataset with classes or attributes.
        domains: whose images, at the first one's size.
        say: told what a person waits for.
        cache: the folder of classifiers, at any storage URL; None: this machine's cache.

    Raises:
        ConfigError: the dataset has no labels, or no such domain.
        DataError, StorageError: data that can't be read.
    """
    manifest = load_manifest(dataset_url)
    label_kind(manifest)
    names = [domain.name for domain in domains]
    made_of = [FORMAT_VERSION, manifest.digest, names, domains[0].height, domains[0].width, EPOCHS]
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]
    url = storage.join(cache or str(default_folder().parent / "classifiers"), key)
    if not storage.exists(storage.join(url, FILE_NAME)):
        whose = " and ".join(f"'{name}'" for name in names)
        say(f"Training a classifier on the real images of {whose} in {manifest.name}, to read translations")
        train(dataset_url, domains, url)
    return pin(url)
