"""Translators that do what tests say, and small datasets for them."""

import dataclasses

import numpy as np
import torch
from torch import nn

from i2idist.data.manifest import load_manifest
from i2idist.data.pack import Sample, pack
from i2idist.method import Method
from i2idist.model import save


@dataclasses.dataclass(frozen=True)
class Config:
    brightness: float = 0.0
    channels: int = 3


class Shift(Method):
    """Every output is the input, brighter, in as many channels as the target has."""

    Config = Config
    paper = "none"

    def __init__(self, config, domains):
        super().__init__()
        self.config, self.domains = config, domains
        self.network = nn.Linear(1, 1)
        if len(domains.images) == 1:
            self.targets = domains.labels

    def translator_networks(self):
        return ("network",)

    def translate(self, x, code=None, *, target="b"):
        return (x.mean(1, keepdim=True).expand(-1, self.config.channels, -1, -1) + self.config.brightness).clamp(-1, 1)


class Levels(Shift):
    """Of each pixel's level a score for every class, the nearest being the highest."""

    def translate(self, x, code=None, *, target="b"):
        centres = torch.arange(self.config.channels).float()[:, None, None]
        level = (x[:, :1] + 1) * 127.5 / 60
        return 1 - (level - centres).abs().clamp_max(2)


def saved(folder, data, kind="Shift", **config):
    """A model of the dataset's domains: its URL."""
    cls = {"Shift": Shift, "Levels": Levels}[kind]
    domains = load_manifest(data).domains_for(None)
    if len(domains.images) > 1:
        a, b = domains.images[:2]
        domains = dataclasses.replace(domains, images=(a, dataclasses.replace(b, channels=config.get("channels", 3))))
    torch.manual_seed(0)
    save(str(folder), cls(Config(**config), domains), method_name=f"tests.evaluate.toys:{kind}", domains=domains)
    return str(folder)


def packed(folder, samples, role, **more):
    pack(samples, str(folder), name=str(folder).rsplit("/", 1)[-1], role=role, workers=1, **more)
    return str(folder)


def grey(level, size=16, channels=3, seed=0):
    """(H, W, C) of about one level."""
    noise = np.random.default_rng(seed).integers(-8, 9, (size, size, channels))
    return (level + noise).clip(0, 255).astype(np.uint8)


def attribute_images(folder):
    """Unpaired images whose attributes are `bright` and `striped`, independent of each other: the dataset's URL."""
    samples = []
    for split, count in (("train", 64), ("test", 16)):
        for domain in ("a", "b"):
            for n in range(count):
                bright, striped = n % 2, n // 2 % 2
                image = grey(190 if bright else 60, seed=n)
                if striped:
                    image[::4] = 255 - image[::4]
                samples.append(Sample(f"{domain}{n}", split, {domain: image}, (float(bright), float(striped))))
    return packed(folder, samples, "unpaired", labels=("bright", "striped"))


def labelled_images(folder):
    """Images of three classes, of different brightness: the dataset's URL."""
    levels = (40, 120, 220)
    samples = [
        Sample(f"{split}{n}", split, {"x": grey(levels[n % 3], seed=n)}, n % 3)
        for split, count in (("train", 30), ("test", 12))
        for n in range(count)
    ]
    return packed(folder, samples, "labelled", labels=("dark", "middle", "light"))
