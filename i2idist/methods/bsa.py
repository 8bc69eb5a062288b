"""BSA: a generator is adapted to few images by the scales and shifts of its batch norms alone, without an adversary.

Noguchi and Harada 2019, "Image Generation From Small Datasets via Batch Statistics Adaptation", arXiv:1904.01774; a
rival of MineGAN (Wang's thesis, Fig. 3.6). Each training image i has a code of its own, which is learnt, too.

    sources: {generator: models:/NAME@ALIAS, vgg: weights:vgg16}

Notation: x_i an image, z_i its code, epsilon a little noise, G_{gamma, beta} the generator with learnt scales and
shifts, C^l convolution l of VGG16, r draws of N(0, I).

Deviations and readings:
- Batch norm keeps the generator's running averages; its own scales and shifts are where gamma and beta begin.
- The distance of the codes from N(0, I) is that of each to the nearest draw, and of each draw to the nearest code, over
  the global batch; gamma and beta are held by the mean of their squared changes.
- An image is known by its pixels: `data.flip` or `data.load_size` would make others of it.
- Codes are cut off at `truncation` by quantile, so that an image is a function of its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from i2idist.data.batches import Batch, Images
from i2idist.errors import ConfigError
from i2idist.losses.reconstruction import l1
from i2idist.method import Adam, Comm, Described, Domain, Domains, Player, Schedule, Step, Terms, Update
from i2idist.methods.checks import check_at_least
from i2idist.methods.gan import images_of
from i2idist.methods.pretrained import Pretrained
from i2idist.nn.norm import CrossReplicaBatchNorm, evaluating
from i2idist.nn.vgg import VGGFeatures
from i2idist.randomness import content_keys

CONVOLUTIONS = 10
_KINDS = ("weight", "bias")


@dataclass(frozen=True, kw_only=True)
class BSAConfig:
    """BSA's settings; the defaults are those of the public code.

    Attributes:
        lambda_perceptual: weight of each convolution's difference; 0: without VGG16.
        lambda_emd: weight of the codes' distance from N(0, I).
        lambda_reg: weight that holds scales and shifts.
        noise: standard deviation of epsilon.
        truncation: sampled codes lie within so many standard deviations.
        images: most training images; None: the dataset's.
        lr: learning rate.
        lr_fifth_every_images: how many images cut it to a fifth [3,000 steps of 25]; None: never.
        vgg_width: channels of the perceptual network's first layer; VGG16's by default.
        generator: what the source is; filled in from the recipe's `sources` when a run is created.
    """

    lambda_perceptual: float = 0.001
    lambda_emd: float = 0.1
    lambda_reg: float = 0.02
    noise: float = 0.01
    truncation: float = 0.3
    images: int | None = None
    lr: float = 0.03
    lr_fifth_every_images: int | None = 75_000
    vgg_width: int = 64
    generator: Described | None = None

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_at_least(0, lambda_perceptual=self.lambda_perceptual, lambda_emd=self.lambda_emd, noise=self.noise)
        check_at_least(0, lambda_reg=self.lambda_reg)
        check_at_least(1, images=self.images, vgg_width=self.vgg_width)
        check_at_least(1, lr_fifth_every_images=self.lr_fifth_every_images)
        if self.truncation <= 0:
            raise ConfigError(f"method.truncation is {self.truncation}: it must be above 0.")


class Adapter(nn.Module):
    """Scales and shifts in place of those of a network's batch norms."""

    def __init__(self, network: nn.Module) -> None:
        """Begin with those that the network has.

        Raises:
            ConfigError: it has no batch norm.
        """
        super().__init__()
        norms = [name for name, module in network.named_modules() if isinstance(module, CrossReplicaBatchNorm)]
        if not norms:
            raise ConfigError("sources.generator has no batch norm, whose scales and shifts BSA adapts: use another.")
        self._names = {f"{name}.{kind}".replace(".", "-"): f"{name}.{kind}" for name in norms for kind in _KINDS}
        for key, name in self._names.items():
            self.register_parameter(key, nn.Parameter(network.get_parameter(name).detach().clone()))

    @torch.no_grad()
    def begin(self, network: nn.Module) -> None:
        """Take over those of the network."""
        for key, name in self._names.items():
            self.get_parameter(key).copy_(network.get_parameter(name))

    def forward(self, network: nn.Module, z: Tensor) -> Tensor:
        """What the network makes of z with these scales and shifts."""
        with evaluating(network):
            made: Tensor = functional_call(network, {n: self.get_parameter(k) for k, n in self._names.items()}, (z,))
        return made

    def change(self, network: nn.Module) -> Tensor:
        """The mean squared change from those of the network: a scalar."""
        changes = [self.get_parameter(k) - network.get_parameter(n).detach() for k, n in self._names.items()]
        return torch.cat(changes).square().mean()


class ImageCodes(nn.Module):
    """A code for each image, which it is known by its pixels by, in the order in which they are first seen."""

    keys: Tensor
    seen: Tensor

    def __init__(self, count: int, code_dim: int) -> None:
        """Make room for the codes of `count` images, all zeros."""
        super().__init__()
        self.register_buffer("keys", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.codes = nn.Parameter(torch.zeros(count, code_dim))

    def forward(self, x: Tensor, comm: Comm) -> Tensor:
        """The codes of images of this worker's part of a batch: (N, C, H, W) -> (N, code_dim)."""
        keys = content_keys(x.flatten(1))
        self._note(comm.gather(keys))
        return self.codes[(keys[:, None] == self.keys[: int(self.seen)]).int().argmax(1)]

    def _note(self, keys: Tensor) -> None:
        """Give codes to images that are new, the same on all workers."""
        known = set(self.keys[: int(self.seen)].tolist())
        for key in dict.fromkeys(keys.tolist()):
            if key in known:
                continue
            if int(self.seen) == len(self.keys):
                raise ConfigError(
                    f"BSA keeps a code for each of {len(self.keys)} images, and there are more: leave data.flip and "
                    "data.load_size out, which make new ones, or raise method.images."
                )
            self.keys[self.seen] = key
            self.seen += 1


class BSA(Pretrained):
    """BSA: one player, adapter (scales and shifts, and the images' codes)."""

    is_source = False
    Config = BSAConfig
    paper = "Noguchi and Harada 2019, Image Generation From Small Datasets via Batch Statistics (arXiv:1904.01774)"
    config: BSAConfig

    def __init__(self, config: BSAConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            ConfigError: the generator doesn't suit, or it isn't known how many images there are.
            SizeError: the generator's images have another size.
        """
        super().__init__(config, domains)
        count = config.images or domains.count
        if count is None:
            raise ConfigError("BSA keeps a code for each training image: set method.images to how many there are.")
        self.adapter = Adapter(self.G)
        self.codes = ImageCodes(count, self.code_dim)
        if config.lambda_perceptual:
            self.vgg = VGGFeatures(config.vgg_width)

    @classmethod
    def tiny(cls) -> Mapping[str, BSAConfig]:
        """Every term."""
        what = Described(
            method="wgan_gp",
            config={"latent_dim": 4, "blocks": 2, "width": 4},
            domains=Domains((Domain("image", 3, 16, 16),)),
        )
        return {"every_term": cls.Config(images=64, vgg_width=1, generator=what)}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images."""
        return Images

    def other_sources(self) -> dict[str, str]:
        """VGG16, where its term has a weight."""
        return {"vgg": "VGG16 (weights:vgg16), since method.lambda_perceptual is set"} if self._perceives() else {}

    def begin(self, sources: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Begin with the generator's scales and shifts, and with VGG16."""
        self.adapter.begin(self.G)
        if self._perceives():
            self.vgg.fill(sources["vgg"], "sources.vgg")

    def _perceives(self) -> bool:
        return bool(self.config.lambda_perceptual)

    def players(self) -> tuple[Player, ...]:
        """One."""
        schedule = Schedule(step_every_images=self.config.lr_fifth_every_images, step_factor=0.2)
        adam = Adam(lr=self.config.lr)
        return (Player(name="adapter", networks=("adapter", "codes"), optimizer=adam, schedule=schedule),)

    def updates(self) -> tuple[Update, ...]:
        """One."""
        return (Update(player="adapter", backward=self.adapter_terms),)

    def adapter_terms(self, step: Step) -> Terms:
        """The differences between x_i and G(z_i + epsilon), and what holds codes, scales and shifts."""
        x = images_of(step.batch)
        z = self.codes(x, step.comm)
        x_hat = self.adapter(self.G, z + self.config.noise * step.normal("epsilon", self.code_dim))
        terms = {"pixel": l1(x_hat, x)}
        if self._perceives():
            pairs = zip(self.vgg.levels(x_hat, CONVOLUTIONS), self.vgg.levels(x, CONVOLUTIONS), strict=True)
            terms["perceptual"] = torch.stack([l1(a, b) for a, b in pairs]).sum(0)
        r = step.normal("r", self.code_dim)
        terms["emd"] = _nearest(z, step.comm.gather(r)) + _nearest(r, step.comm.gather(z))
        return {**terms, "reg": self.adapter.change(self.G)}

    def validation_terms(self, step: Step) -> Terms:
        """None: other images have no codes."""
        return {}

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """G_{gamma, beta} of the code at the same quantile of the truncated normal distribution."""
        limit = torch.special.ndtr(torch.tensor(-self.config.truncation, dtype=torch.float64)).item()
        quantile = limit + (1 - 2 * limit) * torch.special.ndtr(z.double())
        images: Tensor = self.adapter(self.G, torch.special.ndtri(quantile).to(z.dtype))
        return images

    def translator_networks(self) -> tuple[str, ...]:
        """The generator, and its scales and shifts."""
        return ("G", "adapter")


def _nearest(a: Tensor, b: Tensor) -> Tensor:
    """The squared distance of each of a to the nearest of b: (N, Z), (M, Z) -> (N,)."""
    return (a[:, None] - b[None]).square().sum(2).amin(1)
