"""Batches of several modalities, and mix-and-match networks for them."""

import torch

from i2idist.data.batches import Multimodal
from i2idist.method import Domain, Domains
from i2idist.methods.mmnet import MMNet

CLASSES = 3
SMALL = {"pretrained": False, "width": 2, "convs": (1, 2), "discriminator_width": 2, "discriminator_layers": 2}


def modalities(size=(16, 16), *, holes=False):
    rgb, depth = Domain("rgb", 3, *size), Domain("depth", 1, *size, nearest=holes)
    return Domains((rgb, depth, Domain("segmentation", 1, *size, classes=CLASSES)))


def make_mmnet(seed=0, domains=None, **config):
    torch.manual_seed(seed)
    return MMNet(MMNet.Config(**{**SMALL, **config}), domains or modalities())


def batch_of(present, size=16, seed=0):
    """Random images of RGB, depth and segmentation, those that `present` says: rows of three."""
    draws = torch.Generator().manual_seed(seed)
    mask, count = torch.tensor(present, dtype=torch.bool), len(present)
    rgb, depth = (torch.rand(count, c, size, size, generator=draws, dtype=torch.float64) * 2 - 1 for c in (3, 1))
    levels = torch.randint(0, CLASSES, (count, 1, size // 4, size // 4), generator=draws)
    labels = levels.repeat_interleave(4, 2).repeat_interleave(4, 3).double() / 127.5 - 1
    shown = [x * here[:, None, None, None] for x, here in zip((rgb, depth, labels), mask.T, strict=True)]
    return Multimodal(positions=torch.arange(count), images=tuple(shown), present=mask)
