"""Spectral norm (Miyato et al. 2018, arXiv:1802.05957)."""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

_Network = TypeVar("_Network", bound=nn.Module)


def spectrally_normed(network: _Network) -> _Network:
    """Divide the weight of every convolution and linear layer by its largest singular value, in place.

    Each forward pass in training takes one step of the power iteration (Algorithm 1). Its vectors are buffers, and the
    weights alone decide them, so all workers hold the same ones. Initialise the weights before.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            spectral_norm(module)
    return network
