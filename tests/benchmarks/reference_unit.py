"""UNIT's training step written the way the public reference implementation trains; see `reference.py`.

Nothing is shared, discriminators are MUNIT's, and their update makes translations of its own.
"""

import torch
from torch import Tensor, nn

from tests.benchmarks.reference_munit import Discriminator, LayerNorm, Residual, conv, towards


class Autoencoder(nn.Module):
    def __init__(self, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        w, norm = width, nn.InstanceNorm2d
        self.encoder = nn.Sequential(
            conv(3, w, 7, 1, 3, norm(w), nn.ReLU(True)),
            conv(w, 2 * w, 4, 2, 1, norm(2 * w), nn.ReLU(True)),
            conv(2 * w, 4 * w, 4, 2, 1, norm(4 * w), nn.ReLU(True)),
            *(Residual(4 * w, norm) for _ in range(blocks)),
        )
        self.decoder = nn.Sequential(
            *(Residual(4 * w, norm) for _ in range(blocks)),
            nn.Upsample(scale_factor=2),
            conv(4 * w, 2 * w, 5, 1, 2, LayerNorm(2 * w), nn.ReLU(True)),
            nn.Upsample(scale_factor=2),
            conv(2 * w, w, 5, 1, 2, LayerNorm(w), nn.ReLU(True)),
            conv(w, 3, 7, 1, 3, None, nn.Tanh()),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(x)
        return hidden, torch.randn(hidden.size())


class UNITReference:
    """Discriminators before generators; with cycles, no perceptual term."""

    def __init__(self) -> None:
        self.gen_a, self.gen_b, self.dis_a, self.dis_b = Autoencoder(), Autoencoder(), Discriminator(), Discriminator()
        settings = {"lr": 1e-4, "betas": (0.5, 0.999), "weight_decay": 1e-4}
        self.dis_opt = torch.optim.Adam([*self.dis_a.parameters(), *self.dis_b.parameters()], **settings)
        self.gen_opt = torch.optim.Adam([*self.gen_a.parameters(), *self.gen_b.parameters()], **settings)

    def step(self, x_a: Tensor, x_b: Tensor) -> None:
        self.dis_update(x_a, x_b)
        self.gen_update(x_a, x_b)

    def dis_update(self, x_a: Tensor, x_b: Tensor) -> None:
        self.dis_opt.zero_grad()
        (h_a, n_a), (h_b, n_b) = self.gen_a.encode(x_a), self.gen_b.encode(x_b)
        x_ba, x_ab = self.gen_a.decoder(h_b + n_b), self.gen_b.decoder(h_a + n_a)
        loss = towards(self.dis_a(x_ba.detach()), 0) + towards(self.dis_a(x_a), 1)
        (loss + towards(self.dis_b(x_ab.detach()), 0) + towards(self.dis_b(x_b), 1)).backward()
        self.dis_opt.step()

    def gen_update(self, x_a: Tensor, x_b: Tensor) -> None:
        self.gen_opt.zero_grad()
        (h_a, n_a), (h_b, n_b) = self.gen_a.encode(x_a), self.gen_b.encode(x_b)
        x_aa, x_bb = self.gen_a.decoder(h_a + n_a), self.gen_b.decoder(h_b + n_b)
        x_ba, x_ab = self.gen_a.decoder(h_b + n_b), self.gen_b.decoder(h_a + n_a)
        (h_b_again, n_b_again), (h_a_again, n_a_again) = self.gen_a.encode(x_ba), self.gen_b.encode(x_ab)
        x_aba, x_bab = self.gen_a.decoder(h_a_again + n_a_again), self.gen_b.decoder(h_b_again + n_b_again)
        l1 = nn.functional.l1_loss
        images = l1(x_aa, x_a) + l1(x_bb, x_b) + l1(x_aba, x_a) + l1(x_bab, x_b)
        kl = sum(torch.mean(torch.pow(h, 2)) for h in (h_a, h_b, h_a_again, h_b_again))
        gan = towards(self.dis_a(x_ba), 1) + towards(self.dis_b(x_ab), 1)
        (gan + 10 * images + 0.01 * kl).backward()
        self.gen_opt.step()
