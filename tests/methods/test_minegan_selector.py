"""The selector finds a known mixture of two sources (MineGAN, Table 3.1)."""

import pytest
import torch
from torch import Tensor, nn

from i2idist.data.batches import Images
from i2idist.method import Described, Domain, Domains
from i2idist.methods.minegan import MineGAN
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer

DOMAINS = Domains((Domain("image", 1, 8, 8),))
CRITIC = Described(method="wgan_gp", config={"latent_dim": 2, "blocks": 1, "width": 8}, domains=DOMAINS)
LYING = ((torch.arange(8) - 3.5).abs() < 1.5)[:, None].expand(8, 8).float() * 2 - 1
BARS = torch.stack([LYING, LYING.T])
BATCH, CRITIC_STEPS, COUNT = 32, 5, 200


class Bars(nn.Module):
    """A generator of bars that lie, or that stand, of any brightness and a shade of grey."""

    def __init__(self, kind: int) -> None:
        super().__init__()
        self.bar = nn.Parameter(BARS[kind].clone())

    def forward(self, z: Tensor, y: None = None) -> Tensor:
        return self.bar * torch.sigmoid(z[:, :1, None, None] + 1) + 0.05 * z[:, 1:, None, None].tanh()


def bars(share):
    """200 images of which this share lies, brighter than not."""
    draw = torch.Generator().manual_seed(0)
    kinds = (torch.arange(COUNT) >= share * COUNT).long()
    bright, shade = (torch.rand(COUNT, 1, 1, 1, generator=draw) for _ in range(2))
    return BARS[kinds][:, None] * (0.5 + 0.4 * bright) + 0.1 * (shade - 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_the_selector_finds_the_sources_shares(share, steps=100):
    """Measured: 0.311, 0.496, 0.697."""
    torch.manual_seed(0)
    config = MineGAN.Config(
        generators={"lying": CRITIC, "standing": CRITIC},
        widths=(4, 16),
        critic_steps=CRITIC_STEPS,
        lr=1e-3,
        betas=(0.5, 0.9),
        mine_share=1.0,
    )
    method = MineGAN(config, DOMAINS)
    method.G = nn.ModuleDict({"lying": Bars(0), "standing": Bars(1)})
    x, draw = bars(share), torch.Generator().manual_seed(1)

    def batches():
        for number in range(steps * CRITIC_STEPS):
            rows = torch.randint(COUNT, (BATCH,), generator=draw)
            yield Images(positions=torch.arange(BATCH) + number * BATCH, x=x[rows])

    total = steps * CRITIC_STEPS * BATCH
    trainer = Trainer(method, Training(total_images=total, batch_size=BATCH), seed=0, comm=Comm.alone())
    stream = batches()
    for _ in range(steps):
        trainer.step(stream)
    assert method.probabilities()["lying"] == pytest.approx(share, abs=0.1)
    assert all(bool(torch.equal(method.G[name].bar, BARS[kind])) for kind, name in enumerate(method.G))
