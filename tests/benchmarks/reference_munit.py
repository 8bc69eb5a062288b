"""MUNIT's training step written the way the public reference implementation trains; see `reference.py`.

Encoders always run together, the discriminators' update makes translations of its own, and autoencoders are stepped
with the discriminators' parameters collecting gradients that nobody uses.
"""

import itertools

import torch
from torch import Tensor, nn

CODE = 8


class LayerNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.rand(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.view(len(x), -1)
        x = (x - flat.mean(1).view(-1, 1, 1, 1)) / (flat.std(1).view(-1, 1, 1, 1) + 1e-5)
        return x * self.gamma.view(1, -1, 1, 1) + self.beta.view(1, -1, 1, 1)


class AdaptiveNorm(nn.Module):
    """Its scales and shifts are assigned before each forward pass."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = self.bias = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        mean, var = x.new_zeros(n * c), x.new_ones(n * c)
        out = nn.functional.batch_norm(
            x.contiguous().view(1, n * c, h, w), mean, var, self.weight, self.bias, True, 0.1, 1e-5
        )
        return out.view(n, c, h, w)


def conv(i: int, o: int, kernel: int, stride: int, pad: int, norm: nn.Module | None, *after: nn.Module) -> nn.Module:
    layers = [nn.ReflectionPad2d(pad), nn.Conv2d(i, o, kernel, stride), *([norm] if norm else []), *after]
    return nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self, n: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(n, n, 3, 1, 1, norm(n), nn.ReLU(True)), conv(n, n, 3, 1, 1, norm(n)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Generator(nn.Module):
    def __init__(self, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        w, norm = width, nn.InstanceNorm2d
        self.content = nn.Sequential(
            conv(3, w, 7, 1, 3, norm(w), nn.ReLU(True)),
            conv(w, 2 * w, 4, 2, 1, norm(2 * w), nn.ReLU(True)),
            conv(2 * w, 4 * w, 4, 2, 1, norm(4 * w), nn.ReLU(True)),
            *(Residual(4 * w, norm) for _ in range(blocks)),
        )
        self.style = nn.Sequential(
            conv(3, w, 7, 1, 3, None, nn.ReLU(True)),
            conv(w, 2 * w, 4, 2, 1, None, nn.ReLU(True)),
            *(conv(i, 4 * w, 4, 2, 1, None, nn.ReLU(True)) for i in (2 * w, 4 * w, 4 * w)),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(4 * w, CODE, 1),
        )
        self.decoder = nn.Sequential(
            *(Residual(4 * w, AdaptiveNorm) for _ in range(blocks)),
            nn.Upsample(scale_factor=2),
            conv(4 * w, 2 * w, 5, 1, 2, LayerNorm(2 * w), nn.ReLU(True)),
            nn.Upsample(scale_factor=2),
            conv(2 * w, w, 5, 1, 2, LayerNorm(w), nn.ReLU(True)),
            conv(w, 3, 7, 1, 3, None, nn.Tanh()),
        )
        self.norms = [m for m in self.decoder.modules() if isinstance(m, AdaptiveNorm)]
        hidden = nn.Linear(CODE, 256), nn.ReLU(True), nn.Linear(256, 256), nn.ReLU(True)
        self.mlp = nn.Sequential(*hidden, nn.Linear(256, 2 * sum(n.channels for n in self.norms)))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.content(x), self.style(x)

    def decode(self, content: Tensor, style: Tensor) -> Tensor:
        affine = self.mlp(style.flatten(1))
        for norm in self.norms:
            norm.bias = affine[:, : norm.channels].reshape(-1)
            norm.weight = affine[:, norm.channels : 2 * norm.channels].reshape(-1)
            affine = affine[:, 2 * norm.channels :]
        return self.decoder(content)


class Discriminator(nn.Module):
    def __init__(self, width: int = 64, layers: int = 4, scales: int = 3) -> None:
        super().__init__()
        self.down = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.scales = nn.ModuleList()
        for _ in range(scales):
            widths = [3, *(width * 2**i for i in range(layers))]
            body = [conv(i, o, 4, 2, 1, None, nn.LeakyReLU(0.2, True)) for i, o in itertools.pairwise(widths)]
            self.scales.append(nn.Sequential(*body, nn.Conv2d(widths[-1], 1, 1)))

    def forward(self, x: Tensor) -> list[Tensor]:
        out = []
        for scale in self.scales:
            out.append(scale(x))
            x = self.down(x)
        return out


def towards(logits: list[Tensor], goal: float) -> Tensor:
    return sum(torch.mean((scale - goal) ** 2) for scale in logits)


class MUNITReference:
    """Discriminators before generators; no cycle, no perceptual term."""

    def __init__(self) -> None:
        self.gen_a, self.gen_b, self.dis_a, self.dis_b = Generator(), Generator(), Discriminator(), Discriminator()
        for network in (self.gen_a, self.gen_b, self.dis_a, self.dis_b):
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(module.weight)
        settings = {"lr": 1e-4, "betas": (0.5, 0.999), "weight_decay": 1e-4}
        self.dis_opt = torch.optim.Adam([*self.dis_a.parameters(), *self.dis_b.parameters()], **settings)
        self.gen_opt = torch.optim.Adam([*self.gen_a.parameters(), *self.gen_b.parameters()], **settings)

    def step(self, x_a: Tensor, x_b: Tensor) -> None:
        self.dis_update(x_a, x_b)
        self.gen_update(x_a, x_b)

    def dis_update(self, x_a: Tensor, x_b: Tensor) -> None:
        self.dis_opt.zero_grad()
        s_a, s_b = torch.randn(2, len(x_a), CODE)
        c_a, _ = self.gen_a.encode(x_a)
        c_b, _ = self.gen_b.encode(x_b)
        x_ba, x_ab = self.gen_a.decode(c_b, s_a), self.gen_b.decode(c_a, s_b)
        loss = towards(self.dis_a(x_ba.detach()), 0) + towards(self.dis_a(x_a), 1)
        (loss + towards(self.dis_b(x_ab.detach()), 0) + towards(self.dis_b(x_b), 1)).backward()
        self.dis_opt.step()

    def gen_update(self, x_a: Tensor, x_b: Tensor) -> None:
        self.gen_opt.zero_grad()
        s_a, s_b = torch.randn(2, len(x_a), CODE)
        c_a, own_a = self.gen_a.encode(x_a)
        c_b, own_b = self.gen_b.encode(x_b)
        x_aa, x_bb = self.gen_a.decode(c_a, own_a), self.gen_b.decode(c_b, own_b)
        x_ba, x_ab = self.gen_a.decode(c_b, s_a), self.gen_b.decode(c_a, s_b)
        c_b_again, s_a_again = self.gen_a.encode(x_ba)
        c_a_again, s_b_again = self.gen_b.encode(x_ab)
        l1 = nn.functional.l1_loss
        images = l1(x_aa, x_a) + l1(x_bb, x_b)
        styles = l1(s_a_again.flatten(1), s_a) + l1(s_b_again.flatten(1), s_b)
        contents = l1(c_a_again, c_a) + l1(c_b_again, c_b)
        gan = towards(self.dis_a(x_ba), 1) + towards(self.dis_b(x_ab), 1)
        (gan + 10 * images + styles + contents).backward()
        self.gen_opt.step()
