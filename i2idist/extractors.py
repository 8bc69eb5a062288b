"""Semantic extractors, UDIT's h: classifiers of what shall not change, trained on labelled images of their own.

How many channels D their features keep decides what else the constraint holds fast; the thesis takes the smallest D
whose classifier is still good enough (section 5.5.1, Table 5.5). `sweep` makes that table, and `save` writes

```
extractor.json               what it was trained on, its layout, the table, the weight file's digest
weights-<digest>.safetensors
```
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from i2idist import storage
from i2idist.data.labelled import read_labelled
from i2idist.data.manifest import Manifest, load_manifest
from i2idist.data.settings import DataSettings
from i2idist.errors import ConfigError, SourceError
from i2idist.method import Domain
from i2idist.metrics.classifier import distorted
from i2idist.nn.extractor import SemanticClassifier, SemanticExtractor
from i2idist.randomness import key_of, permutation, sample_keys
from i2idist.tensors import WeightsName

FORMAT_VERSION = 1
FILE_NAME = "extractor.json"
TRAINED_ON, HELD_OUT = "train", ("val", "test")
_BATCH = 32
_PEAK_LR = 3e-3

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Layout:
    """An extractor's layout but for D, see `SemanticExtractor`; the default is VGG16's."""

    width: int = 64
    convs: tuple[int, ...] = (2, 2, 3, 3, 3)


@dataclass(frozen=True)
class Row:
    """One row of the table: D, 0 for no reduction, and the share of held-out images that its classifier reads."""

    dim: int
    accuracy: float


@dataclass(frozen=True)
class ExtractorCard:
    """What `extractor.json` says.

    Attributes:
        format_version: of the folder.
        dataset: the dataset's name.
        dataset_digest: its digest.
        domain: whose images it was trained on.
        size: (height, width) of those images.
        channels: of those images.
        labels: names of the classes that it tells apart.
        layout: of the network.
        dim: its D; 0: features aren't reduced.
        epochs: passes over the training split.
        seed: of training.
        accuracy: on the held-out split.
        table: the sweep that it was chosen from.
        weights: the weight file's name.
        weights_sha256: its digest, the extractor's version.
    """

    format_version: int
    dataset: str
    dataset_digest: str
    domain: str
    size: tuple[int, int]
    channels: int
    labels: tuple[str, ...]
    layout: Layout
    dim: int
    epochs: int
    seed: int
    accuracy: float
    table: tuple[Row, ...]
    weights: WeightsName
    weights_sha256: str

    def settings(self) -> dict[str, Any]:
        """The settings of the method `udit` that fit it, by dotted key."""
        return {
            "method.extractor_dim": self.dim,
            "method.extractor_width": self.layout.width,
            "method.extractor_convs": list(self.layout.convs),
        }


@dataclass(frozen=True)
class Trained:
    """A classifier of the sweep, in evaluation mode, and its row."""

    classifier: SemanticClassifier
    row: Row


def train_extractor(
    images: Tensor,
    labels: Tensor,
    *,
    classes: int,
    dim: int,
    layout: Layout = Layout(),  # noqa: B008  # frozen
    epochs: int = 10,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> SemanticClassifier:
    """Train a classifier around an extractor; equal seeds give equal ones on one machine and thread count.

    Args:
        images: (N, C, H, W) float in [-1, 1], N at least 2.
        labels: (N,) int64 in 0..classes-1.
        classes: the number of classes.
        dim: D; 0: no reduction.
        layout: of the network.
        epochs: passes over the images, which are distorted a little each time.
        seed: of initial weights, order and distortions.
        progress: told the fraction done, after every batch.

    Returns:
        The classifier in evaluation mode.

    Raises:
        ConfigError: images too small for the layout.
    """
    size = (images.shape[2], images.shape[3])
    least = 2 ** len(layout.convs)
    if min(size) < least:
        raise ConfigError(
            f"An extractor of {len(layout.convs)} blocks takes images of at least {least} pixels a side, not "
            f"{size[0]}x{size[1]}: give fewer blocks, or larger images."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        extractor = SemanticExtractor(images.shape[1], width=layout.width, convs=layout.convs, dim=dim)
        classifier = SemanticClassifier(extractor, size, classes)
    batches = list(_batches(len(images), epochs, seed))
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=_PEAK_LR, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_LR, total_steps=len(batches))
    for done, (rows, keys) in enumerate(batches, start=1):
        optimizer.zero_grad(set_to_none=True)
        logits = classifier(distorted(images[rows], keys))
        torch.autograd.backward(functional.cross_entropy(logits, labels[rows]))
        optimizer.step()
        schedule.step()
        progress(done / len(batches))
    return classifier.eval()


def _batches(n: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of each batch, and a key for each row; batches are nearly equal, so batch norm never sees one image."""
    for epoch in range(epochs):
        for rows in torch.chunk(permutation(key_of(seed, "order", epoch), n), max(1, n // _BATCH)):
            yield rows, sample_keys(key_of(seed, "distortion", epoch), rows)


@torch.no_grad()
def accuracy_of(classifier: SemanticClassifier, images: Tensor, labels: Tensor) -> float:
    """The share of images that it reads as their label: (N, C, H, W), (N,) int64 -> a fraction."""
    read = torch.cat([classifier(part).argmax(1) for part in torch.split(images, _BATCH)])
    return (read == labels).double().mean().item()


def sweep(
    dataset_url: str,
    domain: Domain,
    dims: Sequence[int],
    *,
    layout: Layout = Layout(),  # noqa: B008  # frozen
    epochs: int = 10,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> list[Trained]:
    """A classifier for each D, measured on the split `val`, or on `test` where there is none.

    Args:
        dataset_url: a packed dataset with classes: those of the property that translations shall keep.
        domain: which images, and at which size; the splits are held in memory.
        dims: the D to try; 0: no reduction.
        layout: of the network.
        epochs: passes over the training split.
        seed: of initial weights, order and distortions.
        progress: told the fraction done.

    Raises:
        ConfigError: the dataset has no classes, no such domain, or no split `val` or `test`.
        DataError, StorageError: data that can't be read.
    """
    manifest = load_manifest(dataset_url)
    if manifest.label_kind != "class":
        raise ConfigError(f"Dataset {manifest.name} has no classes, so no extractor can be trained on it.")
    settings = DataSettings(url=dataset_url, size=(domain.height, domain.width))
    held = next((split for split in HELD_OUT if split in manifest.splits), HELD_OUT[0])
    train, held_out = (read_labelled(settings, domain.name, split) for split in (TRAINED_ON, held))
    found = []
    for number, dim in enumerate(dims):
        classifier = train_extractor(
            train.x,
            train.y,
            classes=len(manifest.labels),
            dim=dim,
            layout=layout,
            epochs=epochs,
            seed=seed,
            progress=lambda done, number=number: progress((number + done) / len(dims)),  # type: ignore[misc]
        )
        found.append(Trained(classifier, Row(dim, accuracy_of(classifier, held_out.x, held_out.y))))
    return found


def smallest_adequate(rows: Sequence[Row], *, adequate: float | None = None, margin: float = 0.02) -> Row:
    """The row with the smallest D whose accuracy is adequate; no reduction counts as the largest D.

    Args:
        rows: the table.
        adequate: the accuracy that is; None: the table's best less `margin`.
        margin: see `adequate`.

    Raises:
        ConfigError: no row is adequate.
    """
    best = max(row.accuracy for row in rows)
    bar = best - margin if adequate is None else adequate
    good = [row for row in rows if row.accuracy >= bar]
    if not good:
        raise ConfigError(
            f"No D reaches an accuracy of {bar:.3f}, the best reaches {best:.3f}: train longer, or on more."
        )
    return min(good, key=lambda row: (row.dim == 0, row.dim))


def save(
    dest: str,
    chosen: Trained,
    table: Sequence[Row],
    manifest: Manifest,
    domain: Domain,
    *,
    layout: Layout,
    epochs: int,
    seed: int,
) -> ExtractorCard:
    """Write an extractor to the folder `dest`, at any storage URL.

    Raises:
        StorageError: a refused write.
    """
    state = chosen.classifier.state_dict()
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()})
    digest = hashlib.sha256(data).hexdigest()
    card = ExtractorCard(
        FORMAT_VERSION,
        manifest.name,
        manifest.digest,
        domain.name,
        (domain.height, domain.width),
        domain.channels,
        manifest.labels,
        layout,
        chosen.row.dim,
        epochs,
        seed,
        chosen.row.accuracy,
        tuple(table),
        f"weights-{digest[:16]}.safetensors",
        digest,
    )
    storage.write_bytes(storage.join(dest, card.weights), data)
    storage.write_bytes(storage.join(dest, FILE_NAME), json.dumps(dataclasses.asdict(card), indent=2).encode())
    return card


def read_extractor(url: str) -> ExtractorCard:
    """The card of the extractor that `save` wrote at `url`.

    Raises:
        SourceError: there is none, or it is damaged or of another format.
        StorageError: storage can't be reached.
    """
    where = storage.join(url, FILE_NAME)
    if not storage.exists(where):
        raise SourceError(f"There is no extractor at {url}: no {FILE_NAME}. Train one with `i2idist extractor`.")
    try:
        card = pydantic.TypeAdapter(ExtractorCard).validate_json(storage.read_bytes(where))
    except pydantic.ValidationError as error:
        raise SourceError(f"{where} is damaged: {error}") from error
    if card.format_version != FORMAT_VERSION:
        raise SourceError(f"{where} has format version {card.format_version}; this i2idist reads {FORMAT_VERSION}.")
    return card


def register(url: str, name: str, *, alias: str | None = None, tracking_uri: str | None = None) -> str:
    """Register the extractor at `url`; one that is registered so already keeps its version.

    Args:
        url: its folder.
        name: the registered model's name, made where absent.
        alias: given to the version; None: `candidate`.
        tracking_uri: MLflow.

    Returns:
        The version.

    Raises:
        SourceError: there is no extractor.
        TrackingError: MLflow can't be reached, or refuses.
    """
    from i2idist.tracking.folders import register_folder  # MLflow takes seconds to import
    from i2idist.tracking.registry import CANDIDATE, promote

    card = read_extractor(url)
    tags = {
        "kind": "extractor",
        "labels": ", ".join(card.labels),
        "dim": str(card.dim),
        "accuracy": f"{card.accuracy:.4f}",
        "table": ", ".join(f"{row.dim}: {row.accuracy:.4f}" for row in card.table),
        "dataset_digest": card.dataset_digest,
    }
    version = register_folder(url, name, card.weights_sha256, tags, uri=tracking_uri)
    return promote(name, alias or CANDIDATE, version, uri=tracking_uri)
