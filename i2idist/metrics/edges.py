"""Edge IoU with the input: how well an output keeps the outlines of what it was made from.

The SEGAN paper shows by pictures that a U-net keeps content better than a ResNet; this is our number for it. Its
reading: edges are the steepest tenth of an image's pixels, and those as steep as the last of them, by the Sobel
gradient of the mean of its channels, so that neither contrast nor colour counts; each edge is thickened by one pixel on
every side, so that an outline shifted by a pixel still meets its own; the value is the intersection over the union of
the two sets of pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from i2idist.errors import ConfigError
from i2idist.metrics import checks

SHARE = 0.1
TOLERANCE = 1
_FLAT = 1e-6
_TIED = 1 - 1e-5  # steps of one height, as in a drawing, are equal up to the rounding of float32
_PIXELS_AT_ONCE = 1 << 22


def edge_iou(inputs: Tensor, outputs: Tensor, *, share: float = SHARE, tolerance: int = TOLERANCE) -> Tensor:
    """The mean over an input's outputs of the IoU of edges.

    Args:
        inputs: (N, C, H, W) float in [-1, 1].
        outputs: (N, C', H, W) or (N, K, C', H, W) float in [-1, 1].
        share: of an image's pixels that are edges, in (0, 1).
        tolerance: pixels by which edges are thickened on every side.

    Returns:
        (N,) float64 in [0, 1]: 1 for equal images, and for two that have no edges at all.

    Raises:
        ConfigError: another number of inputs, other sizes, numbers that aren't finite, or a share outside (0, 1).
    """
    if not 0 < share < 1 or tolerance < 0:
        raise ConfigError(f"Edges need a share in (0, 1) and a tolerance >= 0, not {share} and {tolerance}.")
    outputs = checks.samples_of(outputs, len(inputs), 3, "Outputs")
    if outputs.shape[3:] != inputs.shape[2:]:
        raise ConfigError(f"Edges of images {tuple(outputs.shape)} can't be compared with {tuple(inputs.shape)}.")
    own = edges(inputs, share, tolerance)[:, None]
    found = edges(outputs.flatten(0, 1), share, tolerance).reshape(*outputs.shape[:2], *own.shape[2:])
    shared, union = (own & found).sum((2, 3)).double(), (own | found).sum((2, 3))
    return (shared / union).where(union > 0, 1.0).mean(1)


def edges(images: Tensor, share: float = SHARE, tolerance: int = TOLERANCE) -> Tensor:
    """Where an image is steepest, thickened: (N, C, H, W) -> (N, H, W) bool; nowhere in an image of one colour."""
    checks.finite(images, "Images")
    # torch.quantile takes 16 million numbers at most.
    at_once = max(1, _PIXELS_AT_ONCE // images[0, 0].numel())
    return checks.in_chunks(len(images), at_once, lambda part: _edges(images[part], share, tolerance))


def _edges(images: Tensor, share: float, tolerance: int) -> Tensor:
    grey = images.double().mean(1, keepdim=True)
    slope = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=grey.dtype, device=grey.device)
    kernels = torch.stack([slope, slope.T])[:, None]
    gradients = functional.conv2d(functional.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)
    steepness = gradients.square().sum(1, keepdim=True).sqrt()  # (N, 1, H, W)
    least = torch.quantile(steepness.flatten(1), 1 - share, dim=1)[:, None, None, None]
    steep = (steepness >= (least * _TIED).clamp_min(_FLAT)).to(grey.dtype)
    thick: Tensor = functional.max_pool2d(steep, 2 * tolerance + 1, stride=1, padding=tolerance)[:, 0] > 0
    return thick
