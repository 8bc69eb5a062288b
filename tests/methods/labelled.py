"""Made-up data of labelled methods."""

import torch
from torch import Tensor

from i2idist.data.batches import Labelled
from i2idist.method import Domain, Domains, Method

CLASSES = ("red", "green", "blue")


def labelled_domains(labels=CLASSES, channels=1, size=(16, 16)) -> Domains:
    return Domains((Domain("image", channels, *size),), labels)


def make_labelled(method: type[Method], labels=CLASSES, channels=1, size=(16, 16), seed=0, **config) -> Method:
    """A method from its first tiny config with `config` changed; seeded."""
    first = next(iter(method.tiny().values()))
    torch.manual_seed(seed)
    return method(method.Config(**{**vars(first), **config}), labelled_domains(labels, channels, size))


def labelled(x: Tensor, y: list, first: int = 0) -> Labelled:
    return Labelled(positions=torch.arange(len(x)) + first, x=x, y=torch.tensor(y))


def images(n: int = 4, channels: int = 1, size=(16, 16)) -> Tensor:
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(n)) * 2 - 1
