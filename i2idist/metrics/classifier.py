"""A small classifier of real images, by which translations are read: of one class an image, or of several attributes.

It never sees a translation. Training images are distorted a little (turned, stretched, bent), since a digit written by
hand has shapes that no font has; without that even a perfect recolouring of handwriting reads worse.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.errors import ConfigError
from i2idist.randomness import key_of, permutation, sample_keys, uniform

CLASSES = 10
_BATCH = 64
_PEAK_LR = 4e-3
_AFFINE = (0.3, 0.2, 0.2, 0.35, 0.1, 0.1)  # largest turn (radians), stretches, slant, and shifts in half image sides
_BEND = 0.12
_BEND_CELLS = 5
_SMOOTHING = 0.05


class Classifier(nn.Module):
    """Three convolutions with batch norm and a linear layer: 54,000 parameters at 32x32."""

    def __init__(self, channels: int = 3, classes: int = CLASSES) -> None:
        """Build with random weights from torch's global generator."""
        super().__init__()
        widths = (channels, 24, 48, 96)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True), nn.MaxPool2d(2)
            )
            for i, o in zip(widths, widths[1:], strict=False)
        )
        self.head = nn.Linear(widths[-1] * 4, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (N, C, H, W) in [-1, 1] -> (N, classes); H and W at least 16."""
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(functional.adaptive_max_pool2d(x, 2).flatten(1))
        return logits


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int = 3,
    seed: int = 0,
    classes: int = CLASSES,
    progress: Callable[[float], None] = lambda done: None,
) -> Classifier:
    """Train a classifier; equal seeds give equal classifiers on one machine and thread count.

    Args:
        images: (N, C, H, W) float in [-1, 1], N at least 2.
        labels: (N,) int64 in 0..classes-1; or (N, A) of 0 and 1, attributes, each with a logit of its own.
        epochs: passes over the images.
        seed: of initial weights and order.
        classes: the number of classes, or of attributes.
        progress: told the fraction done, after every batch.

    Returns:
        The classifier in evaluation mode.

    Raises:
        ConfigError: images and labels that don't belong together.
    """
    if len(images) != len(labels) or len(images) < 2:
        raise ConfigError(
            f"A classifier needs a label for each of at least 2 images, not {len(labels)} for {len(images)}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(images.shape[1], classes)
    batches = [
        (rows, sample_keys(key_of(seed, "distortion", epoch), rows))
        for epoch in range(epochs)
        for rows in _batches(len(images), key_of(seed, "order", epoch))
    ]
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=_PEAK_LR, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_LR, total_steps=len(batches))
    for done, (rows, keys) in enumerate(batches, start=1):
        optimizer.zero_grad(set_to_none=True)
        logits = classifier(distorted(images[rows], keys))
        torch.autograd.backward(_loss(logits, labels[rows]))
        optimizer.step()
        schedule.step()
        progress(done / len(batches))
    return classifier.eval()


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with a twentieth of the certainty taken back: of a softmax, or of a sigmoid for each attribute."""
    if labels.dim() == 1:
        return functional.cross_entropy(logits, labels, label_smoothing=_SMOOTHING)
    smooth = labels.to(logits) * (1 - _SMOOTHING) + _SMOOTHING / 2
    return functional.binary_cross_entropy_with_logits(logits, smooth)


def distorted(images: Tensor, keys: Tensor) -> Tensor:
    """Each image turned, stretched, slanted, shifted and smoothly bent, as its key says.

    Args:
        images: (N, C, H, W).
        keys: (N,) int64, see `i2idist.randomness`.

    Returns:
        (N, C, H, W); what moves in from outside is a reflection.
    """
    draws = uniform(keys, (6 + 2 * _BEND_CELLS**2,)) * 2 - 1
    turn, wide, tall, slant, right, down = (draws[:, :6] * torch.tensor(_AFFINE)).unbind(1)
    cos, sin = turn.cos(), turn.sin()
    rows = [cos * (1 + wide), slant - sin, right, sin, cos * (1 + tall), down]
    affine = torch.stack(rows, dim=1).reshape(-1, 2, 3)
    bends = draws[:, 6:].reshape(-1, 2, _BEND_CELLS, _BEND_CELLS) * _BEND
    flow = functional.interpolate(bends, size=images.shape[2:], mode="bicubic", align_corners=False)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False) + flow.permute(0, 2, 3, 1)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _batches(n: int, key: int) -> list[Tensor]:
    """A random order of 0..n-1 in batches of nearly equal size, so that batch norm never sees a single image."""
    return list(torch.chunk(permutation(key, n), max(1, n // _BATCH)))


@torch.no_grad()
def predict(classifier: Classifier, images: Tensor) -> Tensor:
    """The most likely class of each image: (N, C, H, W) float in [-1, 1] -> (N,) int64."""
    return torch.cat([classifier(part).argmax(1) for part in torch.split(images, 256)])


def label_agreement(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of images in which the classifier sees the given label.

    Args:
        classifier: trained, in evaluation mode.
        images: (N, C, H, W), or (N, K, C, H, W) for K outputs an input; float in [-1, 1].
        labels: (N,) int64, the label of each input.

    Returns:
        A fraction in [0, 1]; outputs of one input count one each.

    Raises:
        ConfigError: no image, or not one label an input.
    """
    if len(images) != len(labels) or not len(images):
        raise ConfigError(f"Label agreement needs one label for each input, not {len(labels)} for {len(images)}.")
    if images.dim() == 5:
        labels = labels.repeat_interleave(images.shape[1])
        images = images.flatten(0, 1)
    return (predict(classifier, images) == labels).double().mean().item()


@torch.no_grad()
def attribute_agreement(classifier: Classifier, images: Tensor, attributes: Tensor) -> Tensor:
    """The share of images in which the classifier sees each attribute as it is given.

    Args:
        classifier: trained on attributes, in evaluation mode.
        images: (N, C, H, W) float in [-1, 1].
        attributes: (N, A) of 0 and 1.

    Returns:
        (A,) float64 in [0, 1].

    Raises:
        ConfigError: no image, or not one row an image.
    """
    if len(images) != len(attributes) or not len(images):
        raise ConfigError(f"{len(attributes)} rows of attributes don't belong to {len(images)} images.")
    logits = torch.cat([classifier(part) for part in torch.split(images, 256)])
    return ((logits > 0) == (attributes > 0.5)).double().mean(0)
