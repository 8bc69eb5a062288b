"""The keyed generator: against an independent implementation, and statistically."""

import math

import torch

from i2idist import randomness as r

MASK = 2**64 - 1


def splitmix64(seed: int, count: int) -> list[int]:
    """The published algorithm in Python integers."""
    out = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(z ^ (z >> 31))
    return out


def test_words_are_splitmix64():
    seeds = [0, 1, 1234567, MASK, 2**63]
    keys = torch.tensor([s - 2**64 if s >> 63 else s for s in seeds])
    found = r.words(keys, 50)
    for row, seed in zip(found.tolist(), seeds, strict=True):
        assert [w & MASK for w in row] == splitmix64(seed, 50)


def test_first_published_output_of_seed_1234567():
    assert int(r.words(torch.tensor([1234567]), 1)) & MASK == 6457827717110365317


def test_moments_and_correlations():
    keys = r.sample_keys(r.key_of(3, "test"), torch.arange(1000))
    n = 1000 * 1000
    z = r.normal(keys, (1000,), torch.float64)
    for power, expected, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - expected) < 5 * math.sqrt(spread / n)
    for a, b in ((z[:, :-1], z[:, 1:]), (z[:-1], z[1:]), (z[:, ::2], z[:, 1::2]), (z[:, :500], z[:, 500:])):
        assert abs(float((a * b).mean())) < 5 / math.sqrt(a.numel())
        assert abs(float((a.square() * b.square()).mean()) - 1) < 5 * math.sqrt(8 / a.numel())
    u = r.uniform(keys, (1000,), torch.float64)
    counts = torch.histc(u, 100, 0, 1)
    assert float(((counts - n / 100) ** 2 / (n / 100)).sum()) < 99 + 5 * math.sqrt(2 * 99)
    assert abs(float(r.bernoulli(keys, 0.3, (1000,)).double().mean()) - 0.3) < 5 * math.sqrt(0.21 / n)


def test_normals_reach_the_tails_and_stay_finite():
    z = r.normal(r.sample_keys(r.key_of("tails"), torch.arange(200)), (10_000,))
    assert bool(z.isfinite().all())
    assert 4.5 < float(z.abs().max()) < 7.0


def test_a_sample_draws_the_same_in_any_batch_and_another_purpose_differs():
    key = r.key_of(1, "z", "generator", 0)
    whole = r.normal(r.sample_keys(key, torch.arange(8)), (5,))
    part = r.normal(r.sample_keys(key, torch.arange(5, 8)), (5,))
    assert torch.equal(whole[5:], part)
    other = r.normal(r.sample_keys(r.key_of(1, "z", "generator", 1), torch.arange(8)), (5,))
    assert not bool((whole == other).any())


def test_key_parts_are_not_confused():
    assert len({r.key_of("ab", "c"), r.key_of("a", "bc"), r.key_of("1"), r.key_of(1), r.key_of("1", "")}) == 5


def test_content_keys_follow_the_row_alone():
    code = torch.randn(4, 3)
    assert torch.equal(r.content_keys(code)[2:], r.content_keys(code[2:]))
    assert len(set(r.content_keys(torch.cat([code, -code, code + 1e-6])).tolist())) == 12


def test_permutation_is_one_and_varies():
    orders = [r.permutation(r.key_of(k), 6) for k in range(600)]
    assert all(sorted(o.tolist()) == list(range(6)) for o in orders)
    firsts = torch.bincount(torch.tensor([int(o[0]) for o in orders]), minlength=6)
    assert int(firsts.min()) > 60


def test_noise_layers_differ_and_repeat():
    keys = torch.tensor([5, 6])
    one, two = r.Noise(keys), r.Noise(keys)
    first, second = one.normal((4,)), one.normal((4,))
    assert not torch.equal(first, second)
    assert torch.equal(first, two.normal((4,)))
    assert torch.equal(second[1:], [n := r.Noise(keys[1:]), n.normal((4,)), n.normal((4,))][2])
