"""BicycleGAN's training step written the way the public reference trains; see `reference`."""

import itertools

import torch
from torch import Tensor, nn

from tests.benchmarks.reference import freeze, patchgan


class CodedLevel(nn.Module):
    """A U-net level around the level inside it, whose convolution down sees the code beside the features."""

    def __init__(self, outer: int, inner: int, code: int, inside: nn.Module | None, given: int | None) -> None:
        super().__init__()
        self.outermost, self.inside = given is not None, inside
        down = nn.Conv2d((given or outer) + code, inner, 4, 2, 1)
        up = [nn.ReLU(True), nn.ConvTranspose2d(inner if inside is None else 2 * inner, outer, 4, 2, 1)]
        norm = [nn.InstanceNorm2d(inner)] if not self.outermost and inside else []
        self.down = nn.Sequential(*([] if self.outermost else [nn.LeakyReLU(0.2, True)]), down, *norm)
        self.up = nn.Sequential(*up, nn.Tanh() if self.outermost else nn.InstanceNorm2d(outer))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        h = self.down(torch.cat([x, z[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1))
        h = self.up(h if self.inside is None else self.inside(h, z))
        return h if self.outermost else torch.cat([h, x], 1)


def coded_unet(channels: int, code: int, width: int, depth: int) -> nn.Module:
    widths = [min(width * 2**i, 8 * width) for i in range(depth)]
    level: nn.Module | None = None
    for i in reversed(range(1, depth)):
        level = CodedLevel(widths[i - 1], widths[i], code, level, None)
    return CodedLevel(channels, widths[0], code, level, channels)


class EncoderBlock(nn.Module):
    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        act = nn.LeakyReLU(0.2, True)
        body = [
            nn.InstanceNorm2d(n),
            act,
            nn.Conv2d(n, n, 3, 1, 1),
            nn.InstanceNorm2d(n),
            act,
            nn.Conv2d(n, m, 3, 1, 1),
        ]
        self.body = nn.Sequential(*body, nn.AvgPool2d(2))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(n, m, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class Encoder(nn.Module):
    def __init__(self, channels: int, code: int, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * min(i, 4) for i in range(1, levels + 1)]
        blocks = [EncoderBlock(n, m) for n, m in itertools.pairwise(widths)]
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1), *blocks, nn.LeakyReLU(0.2, True), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.mean, self.log_variance = nn.Linear(widths[-1], code), nn.Linear(widths[-1], code)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.mean(h), self.log_variance(h)


class TwoScales(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.fine = patchgan(channels, nn.InstanceNorm2d, bias=True, width=width)
        self.coarse = patchgan(channels, nn.InstanceNorm2d, bias=True, width=width // 2)
        self.down = nn.AvgPool2d(3, 2, 1, count_include_pad=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.fine(x), self.coarse(self.down(x))]


class BicycleGANReference:
    """One encoded sample, one that gives D2's real image; the encoder is frozen for a backward of the latent term."""

    def __init__(self, *, width: int = 64, depth: int = 8, levels: int = 5, code: int = 8) -> None:
        self.code = code
        self.G, self.E = coded_unet(3, code, width, depth), Encoder(3, code, width, levels)
        self.D, self.D2 = TwoScales(3, width), TwoScales(3, width)
        networks = [self.G, self.E, self.D, self.D2]
        for module in itertools.chain(*(n.modules() for n in networks)):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.xavier_normal_(module.weight, 0.02)
        self.optimizers = [torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999)) for n in networks]
        self.mse, self.l1 = nn.MSELoss(), nn.L1Loss()

    def gan(self, predictions: list[Tensor], real: bool) -> Tensor:
        return sum(self.mse(p, torch.tensor(float(real)).expand_as(p)) for p in predictions)

    def step(self, a: Tensor, b: Tensor) -> None:
        a, b, other = a[:1], b[:1], b[1:]
        mean, log_variance = self.E(b)
        z_encoded = torch.randn(1, self.code) * log_variance.mul(0.5).exp() + mean
        z = torch.randn(1, self.code)
        encoded, drawn = self.G(a, z_encoded), self.G(a, z)
        again, _ = self.E(drawn)
        self.step_generators(b, mean, log_variance, z, encoded, drawn, again)
        self.step_discriminators(((self.D, b, encoded), (self.D2, other, drawn)))

    def step_generators(self, b, mean, log_variance, z, encoded, drawn, again) -> None:
        freeze([self.D, self.D2], True)
        for optimizer in self.optimizers[:2]:
            optimizer.zero_grad()
        gan = self.gan(self.D(encoded), True) + self.gan(self.D2(drawn), True)
        kl = torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp()) * -0.005
        (gan + kl + 10 * self.l1(encoded, b)).backward(retain_graph=True)
        freeze([self.E], True)
        (0.5 * self.l1(again, z)).backward()
        freeze([self.E], False)
        for optimizer in self.optimizers[:2]:
            optimizer.step()

    def step_discriminators(self, judged) -> None:
        freeze([self.D, self.D2], False)
        for (network, real, fake), optimizer in zip(judged, self.optimizers[2:], strict=True):
            optimizer.zero_grad()
            (self.gan(network(fake.detach()), False) + self.gan(network(real), True)).backward()
            optimizer.step()
