"""A split of labelled images, whole: for classifiers, and for datasets that fit into memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from i2idist.data.batches import Labelled
from i2idist.data.reader import Reader
from i2idist.data.settings import DataSettings

_BATCH = 64


@dataclass(frozen=True)
class LabelledImages:
    """All images of a domain in a split.

    Attributes:
        x: (N, C, H, W) float in [-1, 1].
        y: (N,) int64, their classes.
        keys: their names in the dataset.
    """

    x: Tensor
    y: Tensor
    keys: list[str]


def read_labelled(settings: DataSettings, domain: str, split: str) -> LabelledImages:
    """Read a domain's images in a split, in the order of storage.

    Raises:
        ConfigError: the dataset has no labels, or no such split or domain.
        DataError: data that can't be read.
        StorageError: the storage refuses, or can't be reached.
    """
    settings = dataclasses.replace(settings, domains=(domain,))
    reader = Reader(settings, role=Labelled, batch_size=_BATCH, group_size=1, rank=0, world_size=1, seed=0, split=split)
    try:
        batches = [batch for batch in reader.epoch() if isinstance(batch, Labelled)]
        keys = [key for batch in batches for key in reader.keys(batch)]
    finally:
        reader.close()
    return LabelledImages(torch.cat([batch.x for batch in batches]), torch.cat([batch.y for batch in batches]), keys)
