"""Training steps written the way the public reference implementations train, as rivals for the benchmarks.

Written for this benchmark, from the facts in the papers and the reference's published settings: the same blocks and
parameter counts, plain modules, torch's Adam, discriminators frozen by `requires_grad` while generators step, losses
against expanded label tensors, a pool of single images.
"""

import itertools
import random

import torch
from torch import Tensor, nn


def conv_norm(conv: nn.Module, channels: int, norm: type[nn.Module], *activation: nn.Module) -> list[nn.Module]:
    return [conv, norm(channels), *activation]


def resnet(channels: int = 3, width: int = 64, blocks: int = 9) -> nn.Sequential:
    norm = nn.InstanceNorm2d

    class Block(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.ReflectionPad2d(1),
                *conv_norm(nn.Conv2d(n, n, 3), n, norm, nn.ReLU(True)),
                nn.ReflectionPad2d(1),
                *conv_norm(nn.Conv2d(n, n, 3), n, norm),
            )

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(x)

    layers = [nn.ReflectionPad2d(3), *conv_norm(nn.Conv2d(channels, width, 7), width, norm, nn.ReLU(True))]
    for n in (width, 2 * width):
        layers += conv_norm(nn.Conv2d(n, 2 * n, 3, 2, 1), 2 * n, norm, nn.ReLU(True))
    layers += [Block(4 * width) for _ in range(blocks)]
    for n in (4 * width, 2 * width):
        layers += conv_norm(nn.ConvTranspose2d(n, n // 2, 3, 2, 1, 1), n // 2, norm, nn.ReLU(True))
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())


def patchgan(channels: int, norm: type[nn.Module], bias: bool, width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for n, stride in ((width, 2), (2 * width, 2), (4 * width, 1)):
        layers += conv_norm(nn.Conv2d(n, 2 * n, 4, stride, 1, bias=bias), 2 * n, norm, nn.LeakyReLU(0.2, True))
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


class UNetLevel(nn.Module):
    """One level around the level inside it, joined by concatenation."""

    def __init__(self, outer: int, inner: int, inside: nn.Module | None, given: int | None, dropout: bool) -> None:
        super().__init__()
        self.outermost = given is not None
        down = nn.Conv2d(given or outer, inner, 4, 2, 1, bias=False)
        up_in = inner if inside is None else 2 * inner
        if self.outermost:
            layers = [down, inside, nn.ReLU(True), nn.ConvTranspose2d(up_in, outer, 4, 2, 1), nn.Tanh()]
        elif inside is None:
            up = nn.ConvTranspose2d(up_in, outer, 4, 2, 1, bias=False)
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, nn.BatchNorm2d(outer)]
        else:
            up = nn.ConvTranspose2d(up_in, outer, 4, 2, 1, bias=False)
            layers = [nn.LeakyReLU(0.2, True), down, nn.BatchNorm2d(inner), inside, nn.ReLU(True), up]
            layers += [nn.BatchNorm2d(outer), *([nn.Dropout(0.5)] if dropout else [])]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if self.outermost else torch.cat([x, self.body(x)], 1)


def unet(channels: int = 3, width: int = 64, depth: int = 8) -> nn.Module:
    widths = [min(width * 2**i, 8 * width) for i in range(depth)]
    level: nn.Module | None = None
    for i in reversed(range(1, depth)):
        level = UNetLevel(widths[i - 1], widths[i], level, None, dropout=4 <= i < depth - 1)
    return UNetLevel(channels, widths[0], level, channels, dropout=False)


def initialise(*networks: nn.Module) -> None:
    for module in itertools.chain(*(n.modules() for n in networks)):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)


def freeze(networks: list[nn.Module], frozen: bool) -> None:
    for parameter in itertools.chain(*(n.parameters() for n in networks)):
        parameter.requires_grad = not frozen


class Pix2PixReference:
    """D before G; the fake is made once."""

    def __init__(self, *, width: int = 64, depth: int = 8) -> None:
        self.G, self.D = unet(width=width, depth=depth), patchgan(6, nn.BatchNorm2d, bias=False, width=width)
        initialise(self.G, self.D)
        self.optimizers = [torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999)) for n in (self.G, self.D)]
        self.bce, self.l1 = nn.BCEWithLogitsLoss(), nn.L1Loss()

    def gan(self, prediction: Tensor, real: bool) -> Tensor:
        return self.bce(prediction, torch.tensor(float(real)).expand_as(prediction))

    def step(self, a: Tensor, b: Tensor) -> None:
        fake = self.G(a)
        freeze([self.D], False)
        self.optimizers[1].zero_grad()
        loss = self.gan(self.D(torch.cat((a, fake), 1).detach()), False) + self.gan(self.D(torch.cat((a, b), 1)), True)
        (loss * 0.5).backward()
        self.optimizers[1].step()
        freeze([self.D], True)
        self.optimizers[0].zero_grad()
        (self.gan(self.D(torch.cat((a, fake), 1)), True) + 100 * self.l1(fake, b)).backward()
        self.optimizers[0].step()


class Pool:
    """Up to 50 single images; each fake is swapped with one of them with probability one half."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []

    def query(self, fakes: Tensor) -> Tensor:
        out = []
        for fake in fakes.detach():
            fake = fake[None]
            if len(self.images) < 50:
                self.images.append(fake)
            elif random.random() > 0.5:
                place = random.randrange(50)
                fake, self.images[place] = self.images[place].clone(), fake
            out.append(fake)
        return torch.cat(out)


class CycleGANReference:
    """Generators first, with the identity term; then both discriminators."""

    def __init__(self, *, width: int = 64, blocks: int = 9) -> None:
        self.G, self.F = resnet(width=width, blocks=blocks), resnet(width=width, blocks=blocks)
        self.D_X, self.D_Y = (patchgan(3, nn.InstanceNorm2d, bias=True, width=width) for _ in range(2))
        initialise(self.G, self.F, self.D_X, self.D_Y)
        players = [(self.G, self.F), (self.D_X, self.D_Y)]
        self.optimizers = [
            torch.optim.Adam(itertools.chain(*(n.parameters() for n in p)), lr=2e-4, betas=(0.5, 0.999))
            for p in players
        ]
        self.pools = Pool(), Pool()
        self.mse, self.l1 = nn.MSELoss(), nn.L1Loss()

    def gan(self, prediction: Tensor, real: bool) -> Tensor:
        return self.mse(prediction, torch.tensor(float(real)).expand_as(prediction))

    def step(self, x: Tensor, y: Tensor) -> None:
        y_hat, x_hat = self.G(x), self.F(y)
        x_again, y_again = self.F(y_hat), self.G(x_hat)
        freeze([self.D_X, self.D_Y], True)
        self.optimizers[0].zero_grad()
        identity = 5 * (self.l1(self.G(y), y) + self.l1(self.F(x), x))
        cycle = 10 * (self.l1(x_again, x) + self.l1(y_again, y))
        (self.gan(self.D_Y(y_hat), True) + self.gan(self.D_X(x_hat), True) + cycle + identity).backward()
        self.optimizers[0].step()
        freeze([self.D_X, self.D_Y], False)
        self.optimizers[1].zero_grad()
        for network, real, fake, pool in ((self.D_Y, y, y_hat, self.pools[0]), (self.D_X, x, x_hat, self.pools[1])):
            loss = self.gan(network(real), True) + self.gan(network(pool.query(fake)), False)
            (loss * 0.5).backward()
        self.optimizers[1].step()


def stargan_generator(labels: int, width: int = 64, blocks: int = 6) -> nn.Sequential:
    def norm(n: int) -> nn.Module:
        return nn.InstanceNorm2d(n, affine=True, track_running_stats=True)

    def down(a: int, b: int, *shape: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, *shape, bias=False), norm(b), nn.ReLU(True)]

    class Block(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.body = nn.Sequential(*down(n, n, 3, 1, 1), nn.Conv2d(n, n, 3, 1, 1, bias=False), norm(n))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(x)

    layers = [*down(3 + labels, width, 7, 1, 3), *down(width, 2 * width, 4, 2, 1), *down(2 * width, 4 * width, 4, 2, 1)]
    layers += [Block(4 * width) for _ in range(blocks)]
    for n in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(n, n // 2, 4, 2, 1, bias=False), norm(n // 2), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.Conv2d(width, 3, 7, 1, 3, bias=False), nn.Tanh())


class StarGANDiscriminator(nn.Module):
    def __init__(self, labels: int, size: int, width: int = 64, layers: int = 6) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.01)]
        for level in range(layers - 1):
            n = width * 2**level
            parts += [nn.Conv2d(n, 2 * n, 4, 2, 1), nn.LeakyReLU(0.01)]
        top = width * 2 ** (layers - 1)
        self.main = nn.Sequential(*parts)
        self.source = nn.Conv2d(top, 1, 3, 1, 1, bias=False)
        self.label = nn.Conv2d(top, labels, size >> layers, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.main(x)
        return self.source(h), self.label(h).flatten(1)


class StarGANReference:
    """One critic step with its penalty, one generator step; the fake is made in both."""

    def __init__(self, labels: int, size: int) -> None:
        self.G, self.D = stargan_generator(labels), StarGANDiscriminator(labels, size)
        self.optimizers = [torch.optim.Adam(n.parameters(), lr=1e-4, betas=(0.5, 0.999)) for n in (self.G, self.D)]

    def translate(self, x: Tensor, c: Tensor) -> Tensor:
        maps = c[:, :, None, None].repeat(1, 1, x.size(2), x.size(3))
        return self.G(torch.cat([x, maps], dim=1))

    def label_loss(self, logits: Tensor, c: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(logits, c, reduction="sum") / len(logits)

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def penalty(self, x: Tensor, fake: Tensor) -> Tensor:
        share = torch.rand(len(x), 1, 1, 1)
        x_hat = (share * x + (1 - share) * fake.detach()).requires_grad_(True)
        y = self.D(x_hat)[0]
        (slope,) = torch.autograd.grad(y, x_hat, torch.ones_like(y), retain_graph=True, create_graph=True)
        return ((slope.flatten(1).square().sum(1).sqrt() - 1) ** 2).mean()

    def step(self, x: Tensor, c: Tensor) -> None:
        target = c[torch.randperm(len(c))]
        real, labels = self.D(x)
        fake = self.translate(x, target)
        critic = self.D(fake.detach())[0].mean() - real.mean()
        self.zero_grad()
        (critic + self.label_loss(labels, c) + 10 * self.penalty(x, fake)).backward()
        self.optimizers[1].step()
        fake = self.translate(x, target)
        real, labels = self.D(fake)
        again = self.translate(fake, c)
        self.zero_grad()
        (self.label_loss(labels, target) - real.mean() + 10 * (x - again).abs().mean()).backward()
        self.optimizers[0].step()
