"""MineGAN: few images of a target are mined from pretrained generators, then these are fine-tuned.

Wang et al. 2020, "MineGAN: effective knowledge transfer from GANs to target domains with few images", arXiv:1912.05270;
sections, equations and figures are those of Wang's thesis (chapter 3, appendix A.2).

A small network, the miner, maps noise to those codes for which a pretrained generator, which stays as it is, makes
images like the target's. Then both are trained on. The recipe names one source or several, of any architectures:

    sources: {car: models:/car-gan@champion, bus: models:/bus-gan@champion}

Notation: u^i ~ N(0, I) the noise of generator i, M_i its miner, G_i(M_i(u^i)) a fake, D the critic; a supersample has
one fake of each generator, and a minibatch as many of them as real images x; p_i the selector's probabilities.

Deviations and readings:
- While it is mined, G runs with batch norm's running averages, as it is used afterwards: so what is mined is one fixed
  function, on which the few images of a batch leave no mark. Once it is fine-tuned, its batch norms go by the minibatch
  again, each generator's by its own fakes, as while G is trained in the public code for BigGAN; which fake of a
  supersample is best is still judged by running averages. The paper says nothing of it.
- Of a supersample only the fake with the highest critic value is computed with gradients: the same gradients as those
  of the maximum in Eqs. 3.5 and 3.6, where G stays as it is.
- The last 1000 minibatches are the critic's and the miner's, over all workers.
- The length of a code is that of u, plus one where there are several generators: the last number chooses one, by its
  quantile, so that an image is a function of its code alone.
- Conditional sources: each class is a generator of its own (`family`, appendix A.2.2), all with the same weights; or
  M^c looks for the class (`embedding`, Fig. 3.2): a vector that mixes our generators' classes, where BigGAN has one
  from which its batch norms are computed.
- Both M and G, and D unless `critic_lr` says otherwise, learn at one rate. Adam starts anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from i2idist.data.batches import Batch, Images
from i2idist.errors import ConfigError, nearest
from i2idist.losses.adversarial import wasserstein_fake, wasserstein_real
from i2idist.losses.penalty import between, gradient_penalty
from i2idist.method import Adam, Described, Domain, Domains, Player, Stage, Step, Terms, Update
from i2idist.methods.checks import check_at_least, check_choice, check_sources
from i2idist.methods.gan import GAN, fill, images_of
from i2idist.methods.pretrained import source_gan
from i2idist.nn.mining import ConditionalMiner, Miner, Selector
from i2idist.nn.norm import evaluating


@dataclass(frozen=True, kw_only=True)
class MineGANConfig:
    """MineGAN's settings; the defaults are those for Progressive GAN, sections of the thesis in brackets.

    Attributes:
        lambda_gp: weight of the gradient penalty [3.3.1].
        critic_steps: updates of D for each of M.
        widths: of u and of the miner's layers but the last, which gives a code [A.2.1].
        mine_share: the share of training in which G stays as it is; 1: without fine-tuning [3.3.4].
        critic: the source whose critic D starts as; empty: the first [3.3.3, A.2.4].
        conditional: how the class of a conditional source is mined: as a `family` or an `embedding` [3.3.3, A.2.2].
        window: minibatches that the selector remembers [3.3.3].
        lr: learning rate of M and G [A.2.1].
        critic_lr: that of D; None: the same.
        betas: Adam's decay rates [A.2.1].
        ema: whether moving averages of M and G are kept for sampling.
        generators: what the sources are; filled in from the recipe's `sources` when a run is created.
    """

    lambda_gp: float = 10.0
    critic_steps: int = 5
    widths: tuple[int, ...] = (8, 64, 128, 256)
    mine_share: float = 0.5
    critic: str = ""
    conditional: Literal["family", "embedding"] = "family"
    window: int = 1000
    lr: float = 1.5e-3
    critic_lr: float | None = None
    betas: tuple[float, float] = (0.0, 0.99)
    ema: bool = False
    generators: Mapping[str, Described] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_at_least(0, lambda_gp=self.lambda_gp, mine_share=self.mine_share)
        check_at_least(1, critic_steps=self.critic_steps, widths=min(self.widths, default=0), window=self.window)
        check_choice("conditional", self.conditional, ("family", "embedding"))
        if self.mine_share > 1:
            raise ConfigError(f"method.mine_share is {self.mine_share}: it is a share of training, at most 1.")
        if self.generators and self.critic and self.critic not in self.generators:
            raise ConfigError(
                f"method.critic is '{self.critic}', which is none of the sources {', '.join(self.generators)}."
                f"{nearest(self.critic, self.generators)}"
            )


class Mined(NamedTuple):
    """One generator that is mined: a source, or one class of a source that is mined as a family.

    Attributes:
        source: its name.
        miner: the name of its miner.
        label: the class of all its images, where it is one of a family.
        classes: how many the family has.
    """

    source: str
    miner: str
    label: int | None = None
    classes: int = 0


class MineGAN(GAN):
    """MineGAN: players critic (D) and miner (M, and once it is fine-tuned G).

    Attributes:
        G: the generators, by source.
        M: the miners.
        selector: which generator makes an image.
        mined: the generators in the selector's order.
    """

    is_source = False
    Config = MineGANConfig
    paper = "Wang et al. 2020, MineGAN: effective knowledge transfer from GANs to target domains (arXiv:1912.05270)"
    config: MineGANConfig
    G: nn.ModuleDict
    M: nn.ModuleDict
    selector: Selector

    def __init__(self, config: MineGANConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`, which must be like those of the sources.

        Raises:
            ConfigError: there are no generators, or one can't be mined.
            SizeError: they make images of another size.
        """
        super().__init__()
        if not config.generators:
            raise ConfigError(
                "MineGAN mines pretrained generators: name one or several models in the recipe, "
                "`sources: {NAME: models:/NAME@ALIAS}`, registered or exported ones, which say what they are."
            )
        self.config = config
        sources = {name: source_gan(name, what, domains.a) for name, what in config.generators.items()}
        self.G = nn.ModuleDict({name: source.G for name, source in sources.items()})
        self.D = sources[config.critic or next(iter(sources))].D
        self.M = nn.ModuleDict()
        self.mined: tuple[Mined, ...] = ()
        for name, source in sources.items():
            self._add_miners(name, source.code_dim, len(source.targets))
        self.selector = Selector(len(self.mined), config.window)
        self._u_dim = config.widths[0]
        self.code_dim = self._u_dim + (len(self.mined) > 1)

    def _add_miners(self, name: str, code_dim: int, classes: int) -> None:
        """One miner; of a family one for each class."""
        widths = self.config.widths
        if classes and self.config.conditional == "family":
            members = tuple(Mined(name, f"{name}-{label}", label, classes) for label in range(classes))
        else:
            members = (Mined(name, name),)
        for member in members:
            alone = member.label is not None or not classes
            self.M[member.miner] = Miner(widths, code_dim) if alone else ConditionalMiner(widths, code_dim, classes)
        self.mined += members

    @classmethod
    def with_sources(cls, config: MineGANConfig, models: Mapping[str, Described]) -> MineGANConfig:
        """The config with what the generators are."""
        return dataclasses.replace(config, generators=dict(models)) if models else config

    @classmethod
    def build(cls, config: Any, domains: Domains, sources: Mapping[str, Mapping[str, Tensor]] | None = None) -> Self:
        """The method, with generators and critic filled from `sources`.

        Raises:
            ConfigError: a source is no generator, or doesn't say what it is, or there is none.
            SourceError: a source's weights aren't those of what it says it is.
        """
        method = cls(config, domains)
        check_sources(sources, dict.fromkeys(config.generators, "a generator"))
        critic = config.critic or next(iter(config.generators))
        for name, state in (sources or {}).items():
            fill(method.G[name], "G", state, f"sources.{name}")
            if name == critic:
                fill(method.D, "D", state, f"sources.{name}")
        return method

    @classmethod
    def tiny(cls) -> Mapping[str, MineGANConfig]:
        """Two generators of different architectures; a family; a class that is looked for."""
        domains = Domains((Domain("image", 3, 16, 16),), ("first", "second", "third"))
        small: dict[str, Any] = {"blocks": 2, "width": 4}

        def config(settings: Mapping[str, Mapping[str, Any]], **changes: Any) -> MineGANConfig:
            found = {m: Described(method=m, config={**small, **s}, domains=domains) for m, s in settings.items()}
            return cls.Config(widths=(4, 6), window=3, critic_steps=2, mine_share=0.4, generators=found, **changes)

        acgan = {"latent_dim": 3, "condition": "concat"}
        return {
            "several": config({"wgan_gp": {"latent_dim": 4}, "sngan": {"latent_dim": 5}}, critic="sngan", ema=True),
            "family": config({"acgan": acgan}),
            "embedding": config({"acgan": {**acgan, "condition": "bnorm"}}, conditional="embedding"),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images; the target's labels aren't used."""
        return Images

    def players(self) -> tuple[Player, ...]:
        """Critic and miner; the generators belong to the miner."""
        config = self.config
        adam = Adam(lr=config.lr, betas=config.betas)
        critic = dataclasses.replace(adam, lr=config.lr if config.critic_lr is None else config.critic_lr)
        return (
            Player(name="critic", networks=("D",), optimizer=critic),
            Player(name="miner", networks=("M", "G"), optimizer=adam, ema=config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """D steps several times, then M."""
        return self._updates(tunes=False)

    def _updates(self, tunes: bool) -> tuple[Update, ...]:
        """Those of a stage that `tunes` G, or doesn't."""
        critic, miner = partial(self.critic_terms, tunes=tunes), partial(self.miner_terms, tunes=tunes)
        return (
            Update(player="critic", backward=critic, repeat=self.config.critic_steps),
            Update(player="miner", backward=miner),
        )

    def stages(self) -> tuple[Stage, ...]:
        """Mining, with G frozen (section 3.3.2); then fine-tuning (section 3.3.4)."""
        mining = Stage(name="mining", updates=self.updates(), until=self.config.mine_share, frozen=("G",))
        tuning = Stage(name="fine-tuning", updates=self._updates(tunes=True))
        return (mining,) if self.config.mine_share == 1 else (mining, tuning)

    def critic_terms(self, step: Step, *, tunes: bool = False) -> Terms:
        """Eq. 3.5, of one generator Eq. 3.3; without gradients, as in validation, there is no penalty."""
        x = images_of(step.batch)
        with torch.no_grad():
            x_hat = self._fakes(step, tunes)
        terms = {"real": wasserstein_real(self.D(x).real), "fake": wasserstein_fake(self.D(x_hat).real)}
        if torch.is_grad_enabled():
            points = between(x, x_hat, step.uniform("epsilon", 1, 1, 1))
            terms["gp"] = gradient_penalty(self.D(points).real, points)
        return terms

    def miner_terms(self, step: Step, *, tunes: bool = False) -> Terms:
        """Eq. 3.6, of one generator Eq. 3.4."""
        return {"gan": wasserstein_real(self.D(self._fakes(step, tunes)).real)}

    def _fakes(self, step: Step, tunes: bool) -> Tensor:
        """The fake of each supersample with the highest critic value: (K, C, H, W)."""
        u, i, wins = self._best(step)
        return self._make(u, i, wins.tolist() if tunes else None)

    @torch.no_grad()
    def _best(self, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """Of each supersample u^i and i of the fake with the highest critic value: (K, U), (K,) int64.

        And how often each generator has it, over all workers, (N,) int64: counted for the selector, but in validation.
        """
        u = step.normal("u", len(self.mined), self._u_dim)  # (K, N, U)
        i = torch.zeros(len(u), dtype=torch.int64, device=u.device)
        if len(self.mined) > 1:
            with evaluating(self.D):  # its spectral norms take a step with what is trained on alone
                values = [self.D(self._make(u[:, n], i + n)).real for n in range(len(self.mined))]
            i = torch.cat(values, dim=1).argmax(1)
        wins = step.comm.sum(one_hot(i, len(self.mined)).sum(0))
        if self.training:
            self.selector.record(wins)
        return u[torch.arange(len(u), device=u.device), i], i, wins

    def _make(self, u: Tensor, i: Tensor, wins: Sequence[int] | None = None) -> Tensor:
        """G_i(M_i(u)): (N, U), (N,) int64 -> (N, C, H, W).

        Batch norms go by running averages; given `wins`, by the fakes of all workers, of which each generator has so
        many: a worker then runs also those of which it has none itself.
        """
        rows, images = [], []
        for source, G in self.G.items():
            members = [number for number, member in enumerate(self.mined) if member.source == source]
            mine = torch.cat([(i == number).nonzero()[:, 0] for number in members])
            if not (len(mine) if wins is None else sum(wins[number] for number in members)):
                continue
            mined = [self._mine(self.mined[number], u[i == number]) for number in members]
            classes = [y for _, y in mined if y is not None]
            with evaluating(G) if wins is None else nullcontext():
                images.append(G(torch.cat([z for z, _ in mined]), torch.cat(classes) if classes else None))
            rows.append(mine)
        return torch.cat(images)[torch.cat(rows).argsort()]

    def _mine(self, member: Mined, u: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes for a generator, and classes where it takes some."""
        z, y = self.M[member.miner](u), None
        if member.label is not None:
            label = torch.full((len(u),), member.label, device=u.device)
            y = one_hot(label, member.classes)
        elif isinstance(z, tuple):
            z, y = z
        return z, y

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """G_i(M_i(u)), i drawn by the last number of the code where there are several generators; differentiable."""
        u, last = z[:, : self._u_dim], z[:, self._u_dim :]
        i = self.selector.choose(last[:, 0]) if last.shape[1] else torch.zeros_like(z[:, 0], dtype=torch.int64)
        return self._make(u, i)

    def probabilities(self) -> dict[str, float]:
        """p_i, by source; of a family by source and label."""
        return dict(zip(self._names(), self.selector.probabilities().tolist(), strict=True))

    def _names(self) -> Iterator[str]:
        for member in self.mined:
            label = None if member.label is None else self.config.generators[member.source].domains.labels[member.label]
            yield member.source if label is None else f"{member.source}, {label}"

    def translator_networks(self) -> tuple[str, ...]:
        """The miners, generators and selector; and the critic."""
        return ("M", "G", "D", "selector")
