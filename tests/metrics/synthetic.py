"""Weights by formula: the same on every machine, for networks whose published weights can't be had in tests."""

import torch


def weights_like(state):
    """A value for every tensor of a state dict, by its place alone, such that activations stay near 1."""
    return {name: _values(name, tensor, place) for place, (name, tensor) in enumerate(state.items())}


def _values(name, tensor, place):
    if not tensor.is_floating_point():
        return torch.zeros_like(tensor)
    waves = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 12.9898 + place)
    noise = ((waves * 43758.5453).frac()).reshape(tensor.shape)  # in (-1, 1)
    if tensor.dim() > 1:
        return (noise * (3.8 / tensor[0].numel()) ** 0.5).float()
    if name.endswith("running_var") or name.endswith("weight"):
        return (1 + 0.5 * noise).float()
    return (0.1 * noise).float()


def pictures(height, width, images=2):
    """(images, 3, height, width) in [-1, 1], on 8-bit levels: gratings of other turns and widths in each image."""
    rows, columns = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)
    waves = [
        torch.sin(rows * 0.31 / (1 + i) + columns * 0.17 * i + channel) for i in range(images) for channel in range(3)
    ]
    levels = ((torch.stack(waves).reshape(images, 3, height, width) + 1) * 127.5).round()
    return (levels / 127.5 - 1).float()
