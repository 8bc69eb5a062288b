import pytest
import torch

from i2idist.nn.mining import ConditionalMiner, Miner, PixelNorm, Selector


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("widths", "outputs", "count"),
    [
        ((16, 16), 16, 2 * (16 * 16 + 16)),
        ((128, 128), 128, 2 * (128 * 128 + 128)),
        ((8, 64, 128, 256), 512, 576 + 8_320 + 33_024 + 131_584),
        ((8, 32, 64), 128, 288 + 2_112 + 8_320),
        ((128, 128, 128, 128), 120, 3 * 16_512 + 15_480),
    ],
)
def test_the_appendixs_miners(widths, outputs, count):
    """MNIST, visual and quantitative; Progressive GAN; SNGAN; BigGAN's code (appendix A.2.1)."""
    miner = Miner(widths, outputs)
    assert parameters(miner) == count
    assert miner(torch.randn(3, widths[0])).shape == (3, outputs)


def test_bigGANs_miners_share_u():
    """128-128-128-128-120 and 128; the class begins at the mean of the classes."""
    miner = ConditionalMiner((128,) * 4, 120, 128)
    assert parameters(miner.embedding) == 4 * 16_512
    code, embedding = miner(torch.randn(500, 128))
    assert code.shape == (500, 120) and embedding.shape == (500, 128)
    assert embedding.mean().item() == pytest.approx(1 / 128, abs=2e-3) and embedding.std().item() < 3 / 128


def test_a_miner_by_hand():
    """u = 1: relu(3 u, -u, 4 u) = (3, 0, 4), whose root mean square is sqrt(25 / 3); then the sum."""
    miner = Miner((1, 3), 1).double()
    with torch.no_grad():
        miner.layers[0].weight.copy_(torch.tensor([[3.0], [-1.0], [4.0]]))
        miner.layers[0].bias.zero_()
        miner.last.weight.fill_(1)
        z = miner(torch.ones(1, 1, dtype=torch.float64))
    assert z.item() == pytest.approx(7 / (25 / 3) ** 0.5, rel=1e-8)
    assert PixelNorm()(torch.zeros(1, 3)).eq(0).all()


def test_what_a_miner_gives_at_first_varies_about_as_codes_do():
    z = Miner((8, 64, 128, 256), 512)(torch.randn(2000, 8))
    assert 0.8 < float(z.square().mean()) < 1.25


def test_the_selector_counts_the_last_minibatches():
    selector = Selector(3, window=2)
    assert selector.probabilities().tolist() == [1 / 3] * 3
    for wins in ([4, 0, 0], [1, 3, 0], [0, 2, 2]):
        selector.record(torch.tensor(wins))
    assert selector.probabilities().tolist() == [1 / 8, 5 / 8, 2 / 8]
    assert int(selector.minibatches) == 3


def test_the_selector_chooses_by_quantile():
    selector = Selector(3, window=1)
    selector.record(torch.tensor([3, 0, 7]))
    assert selector.choose(torch.tensor([-9.0, -0.53, -0.52, 0.0, 9.0])).tolist() == [0, 0, 2, 2, 2]
    drawn = selector.choose(torch.randn(100_000, generator=torch.Generator().manual_seed(0)))
    assert drawn.bincount(minlength=3).tolist() == pytest.approx([30_000, 0, 70_000], abs=600)
