"""ST-LPIPS: a learned perceptual distance that tolerates small shifts, and the diversity measured with it.

Ghildyal and Liu 2022, "Shift-tolerant Perceptual Similarity Metric", arXiv:2207.13686, on LPIPS (Zhang et al. 2018,
arXiv:1801.03924). The network is AlexNet with stride 1 in its first convolution and every stride replaced by a blur
pooling whose reflection padding is wide. The trained weights are those that the package `stlpips-pytorch` 0.0.2
carries; its code is not imported, since that needs packages that it doesn't declare: the file is found, verified by its
SHA-256 and read as tensors.

Small images: the weights were trained on 64x64 patches, so images whose shorter side is below 64 are enlarged
bilinearly until it is 64. The rule is part of the metric's `NAME`; numbers under different names don't compare.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.errors import ConfigError, SourceError

NAME = "st-lpips-alex-min64"
MIN_SIDE = 64
WEIGHTS_PACKAGE = "stlpips_pytorch"
WEIGHTS_FILE = "weights/vST0.0/alex_shift_tolerant.pth"
WEIGHTS_SHA256 = "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_CONVOLUTIONS = ((3, 64, 11, 2), (64, 192, 5, 2), (192, 384, 3, 1), (384, 256, 3, 1), (256, 256, 3, 1))
_KEYS = ("net.slice1.0", "net.slice2.5", "net.slice3.9", "net.slice4.11", "net.slice5.13")
_IMAGES_AT_ONCE = 64


def blur_pool(x: Tensor) -> Tensor:
    """Blur with a 3x3 binomial filter and drop every second pixel: (N, C, H, W) -> (N, C, (H+3)//2, (W+3)//2)."""
    row = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = (row[:, None] * row).expand(x.shape[1], 1, 3, 3)
    return functional.conv2d(functional.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


class ShiftTolerantLPIPS(nn.Module):
    """The network: five feature maps of an image, and a non-negative weight for each of their channels."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        """Build with random weights; `load_network` gives the trained ones."""
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, k, padding=p) for i, o, k, p in _CONVOLUTIONS)
        self.channel_weights = nn.ParameterList(torch.zeros(1, o, 1, 1) for _, o, _, _ in _CONVOLUTIONS)
        self.register_buffer("shift", torch.tensor(_SHIFT).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).reshape(1, 3, 1, 1))

    def features(self, x: Tensor) -> list[Tensor]:
        """Five maps of unit feature vectors of (N, 3, H, W) images in [-1, 1], each (N, C_l, H_l, W_l)."""
        h, maps = (x - self.shift) / self.scale, []
        for layer, convolution in enumerate(self.convolutions):
            if layer in (1, 2):
                h = blur_pool(functional.max_pool2d(h, 3, stride=1))
            h = convolution(h)
            h = functional.relu(blur_pool(h) if layer == 0 else h)
            maps.append(h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return maps

    def weigh(self, squares: list[Tensor]) -> Tensor:
        """The sum over layers of the spatial mean of weighted squared differences: five (N, C_l, H_l, W_l) -> (N,)."""
        terms = [functional.conv2d(s, w).mean((1, 2, 3)) for s, w in zip(squares, self.channel_weights, strict=True)]
        return torch.stack(terms).sum(0)

    def load_published(self, state: dict[str, Tensor]) -> None:
        """Copy the published weights, whose names follow the places of layers in the original's `Sequential`s."""
        own = {}
        for layer, key in enumerate(_KEYS):
            own[f"convolutions.{layer}.weight"] = state[f"{key}.weight"]
            own[f"convolutions.{layer}.bias"] = state[f"{key}.bias"]
            own[f"channel_weights.{layer}"] = state[f"lin{layer}.model.1.weight"]
        self.load_state_dict(own | {"shift": self.shift, "scale": self.scale})


def weights_path() -> Path:
    """Where the installed `stlpips-pytorch` keeps the AlexNet weights.

    Raises:
        SourceError: the package is not installed.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            "The perceptual metric needs the weight file of the package stlpips-pytorch, which is not installed: "
            "pip install stlpips-pytorch==0.0.2"
        )
    return Path(spec.submodule_search_locations[0]) / WEIGHTS_FILE


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weight file as tensors alone, after checking its SHA-256.

    Raises:
        SourceError: the file is absent, or is not the published one.
    """
    if not path.is_file():
        raise SourceError(f"No perceptual weights at {path}: reinstall the package, pip install stlpips-pytorch==0.0.2")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise SourceError(
            f"{path} has SHA-256 {digest}, expected {WEIGHTS_SHA256}: distances would not be comparable. "
            "Reinstall stlpips-pytorch==0.0.2."
        )
    state: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state


@functools.cache
def load_network() -> ShiftTolerantLPIPS:
    """The trained network on the CPU, in evaluation mode without gradients; read once a process.

    Raises:
        SourceError: the weight file is absent or altered.
    """
    network = ShiftTolerantLPIPS().eval().requires_grad_(False)
    network.load_published(read_weights(weights_path()))
    return network


def prepare(images: Tensor) -> Tensor:
    """Give grey images three channels, and enlarge small ones bilinearly to a shorter side of 64.

    Raises:
        ConfigError: images that have neither 1 nor 3 channels.
    """
    if images.shape[1] not in (1, 3):
        raise ConfigError(f"{NAME} compares images of 1 or 3 channels, not {images.shape[1]}: choose three channels.")
    images = images.expand(-1, 3, -1, -1)
    height, width = images.shape[2:]
    if min(height, width) >= MIN_SIDE:
        return images
    factor = MIN_SIDE / min(height, width)
    size = (round(height * factor), round(width * factor))
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def distance(x: Tensor, y: Tensor, network: ShiftTolerantLPIPS | None = None) -> Tensor:
    """The ST-LPIPS distance of each pair of images; differentiable.

    Args:
        x: (N, C, H, W) float in [-1, 1], C being 1 or 3.
        y: the same shape.
        network: the trained network by default.

    Returns:
        (N,), >= 0 and 0 for equal images.

    Raises:
        ConfigError: channels other than 1 or 3.
        SourceError: the weight file is absent or altered.
    """
    network = network or load_network()
    pairs = zip(network.features(prepare(x)), network.features(prepare(y)), strict=True)
    return network.weigh([(f - g).square() for f, g in pairs])


def _spread(images: Tensor, network: ShiftTolerantLPIPS) -> Tensor:
    """Each input's mean distance over all pairs of its outputs: (N, K, C, H, W) -> (N,)."""
    k = images.shape[1]
    maps = [f.reshape(-1, k, *f.shape[1:]) for f in network.features(prepare(images.flatten(0, 1)))]
    # The squares of all K(K-1)/2 differences sum to K times the squares around the mean.
    squares = [(f - f.mean(1, keepdim=True)).square().sum(1) * (2 / (k - 1)) for f in maps]
    return network.weigh(squares)


@torch.no_grad()
def diversity(images: Tensor, network: ShiftTolerantLPIPS | None = None) -> float:
    """How different the outputs for one input are: the mean over inputs of the mean ST-LPIPS over all K(K-1)/2 pairs.

    Args:
        images: (N, K, C, H, W) float in [-1, 1], the K outputs of each of N inputs, K >= 2.
        network: the trained network by default.

    Returns:
        The diversity, >= 0; 0 where the code is ignored.

    Raises:
        ConfigError: fewer than two outputs an input, no input, or channels other than 1 or 3.
        SourceError: the weight file is absent or altered.
    """
    if len(images) < 1 or images.shape[1] < 2:
        raise ConfigError(
            f"Diversity needs at least one input with two outputs, not {len(images)} with {images.shape[1]}: "
            "translate with num_samples=2 or more."
        )
    network = network or load_network()
    chunks = torch.split(images, max(1, _IMAGES_AT_ONCE // images.shape[1]))
    return torch.cat([_spread(chunk, network) for chunk in chunks]).double().mean().item()
