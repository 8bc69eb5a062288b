"""Random numbers that depend on *what* is drawn and never on *where*.

Every draw is keyed by (seed, purpose, ..., position), position being a sample's place in the run's draw stream, so
that the numbers are the same on any number of workers, after any resume, and on CPU and CUDA alike. The generator is
SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators") in counter mode, vectorised
over int64 tensors: word j of key k is mix(k + j * gamma). Integers and uniforms are equal bit for bit on every
device; normals go through `log` and `cos` and agree to rounding.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_LOW_32 = 0xFFFFFFFF


def _signed(word: int) -> int:
    """The two's-complement int64 with the bits of an unsigned 64-bit `word`."""
    word &= 0xFFFFFFFFFFFFFFFF
    return word - (1 << 64) if word >> 63 else word


def _xor_shift(z: Tensor, bits: int) -> Tensor:
    """`z ^ (z >>> bits)`: torch shifts int64 arithmetically, so the sign bits are masked away."""
    return z ^ ((z >> bits) & ((1 << (64 - bits)) - 1))


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection of int64 whose output bits look independent."""
    z = _xor_shift(z, 30) * _signed(_MULTIPLIERS[0])
    z = _xor_shift(z, 27) * _signed(_MULTIPLIERS[1])
    return _xor_shift(z, 31)


def key_of(*parts: str | int) -> int:
    """A signed 64-bit key of any parts: `key_of(seed, "dropout", 3)`. Equal parts give equal keys on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def sample_keys(key: int, positions: Tensor) -> Tensor:
    """One key a sample.

    Args:
        key: the key of what is drawn, from `key_of`.
        positions: (N,) int64, the samples' places in the draw stream.

    Returns:
        (N,) int64.
    """
    return _mix(_mix(positions * _signed(_GAMMA)) ^ key)


def content_keys(content: Tensor) -> Tensor:
    """One key a row of `content`, from its float32 bits: the same row gives the same key in any batch.

    Args:
        content: (N, K) float, cast to float32.

    Returns:
        (N,) int64.
    """
    bits = content.to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    keys = torch.zeros(len(content), dtype=torch.int64, device=content.device)
    for column in bits.unbind(1):
        keys = _mix(keys + _signed(_GAMMA) ^ column)
    return keys


def words(keys: Tensor, count: int) -> Tensor:
    """`count` 64-bit words for each key: (N,) int64 -> (N, count) int64."""
    counter = torch.arange(1, count + 1, device=keys.device) * _signed(_GAMMA)
    return _mix(keys[:, None] + counter)


def _halves(keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(N, ceil(count / 2)) integers in [0, 2^32), twice: the high and low halves of each word."""
    w = words(keys, (count + 1) // 2)
    return (w >> 32) & _LOW_32, w & _LOW_32


def uniform(keys: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in [0, 1): (N,) keys -> (N, *shape), exact multiples of 2^-24 (float64: 2^-53)."""
    bits, scale = (53, 2.0**-53) if dtype == torch.float64 else (24, 2.0**-24)
    w = words(keys, math.prod(shape))
    return (((w >> (64 - bits)) & ((1 << bits) - 1)).to(dtype) * scale).reshape(len(keys), *shape)


def normal(keys: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers by Box and Muller, two a word: (N,) keys -> (N, *shape)."""
    count = math.prod(shape)
    high, low = _halves(keys, count)
    radius = ((high.to(dtype) + 0.5) * 2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = low.to(dtype) * (2.0 * math.pi * 2.0**-32)
    both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return both[:, :count].reshape(len(keys), *shape)


def bernoulli(keys: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
    """True with probability `p`: (N,) keys -> (N, *shape) bool."""
    count = math.prod(shape)
    threshold = round(p * 2**32)
    both = torch.cat([half < threshold for half in _halves(keys, count)], dim=1)
    return both[:, :count].reshape(len(keys), *shape)


def permutation(key: int, n: int, device: torch.device | str = "cpu") -> Tensor:
    """A uniformly random order of 0..n-1: (n,) int64. Ties among the 64-bit sort keys fall in index order."""
    keys = torch.tensor([key], dtype=torch.int64, device=device)
    return torch.argsort(words(keys, n)[0], stable=True)


class Noise:
    """A stream of draws for the layers of one forward pass, each draw with a key of its own.

    Layers that drop or perturb features take a `Noise` and call it in order; the n-th draw is keyed by the sample's
    key and n, so a layer's mask depends on the sample alone.
    """

    def __init__(self, keys: Tensor) -> None:
        """Start a stream for the samples with these `keys`, (N,) int64."""
        self._keys = keys
        self._draws = 0

    def _next(self) -> Tensor:
        self._draws += 1
        return _mix(self._keys + self._draws)

    def of(self, samples: Tensor) -> Noise:
        """A new stream for some of the samples, (M,) indices, in their order."""
        return Noise(self._keys[samples])

    def bernoulli(self, p: float, shape: tuple[int, ...]) -> Tensor:
        """(N, *shape) bool, True with probability `p`."""
        return bernoulli(self._next(), p, shape)

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """(N, *shape) standard normal."""
        return normal(self._next(), shape, dtype)
