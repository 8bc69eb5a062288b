"""A method small enough to check the trainer by hand: a linear map, its weight and its bias, and a critic."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from i2idist.data.batches import Batch, Paired
from i2idist.method import Adam, Backward, Domains, Method, Player, Stage, Step, Terms, Update


class Weight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.5))


@dataclass(frozen=True, kw_only=True)
class Config:
    lambda_fit: float = 1.0
    lambda_scalar: float = 0.0
    critic_repeat: int = 1
    critic_every: int = 1
    stages: bool = False
    clip_norm: float | None = None
    second_again: bool = False
    blow_up_at: int | None = None
    seen: list[Any] = field(default_factory=list)


class Toy(Method):
    Config = Config

    def __init__(self, config: Config, domains: Domains) -> None:
        super().__init__()
        self.config = config
        self.first, self.second, self.critic = Weight(), Weight(), Weight()

    @classmethod
    def batch_type(cls, config: Config) -> type[Batch]:
        return Paired

    def players(self) -> tuple[Player, ...]:
        adam = Adam(lr=0.1, clip_norm=self.config.clip_norm)
        return (
            Player(name="maps", networks=("first", "second"), optimizer=adam, ema=True),
            Player(name="critic", networks=("critic",), optimizer=Adam(lr=0.1)),
        )

    def updates(self) -> tuple[Update, ...]:
        again = Update(player="maps", backward=(Backward(self.only_second, ("second",)),))
        return (
            Update(
                player="critic",
                backward=self.critic_terms,
                repeat=self.config.critic_repeat,
                every=self.config.critic_every,
            ),
            Update(
                player="maps",
                backward=(Backward(self.both, ("first", "second")), Backward(self.only_second, ("second",))),
            ),
            *([again] if self.config.second_again else []),
        )

    def stages(self) -> tuple[Stage, ...]:
        if not self.config.stages:
            return super().stages()
        return (
            Stage(name="one", updates=self.updates(), until=0.5, frozen=("second",)),
            Stage(name="two", updates=self.updates(), weights={"fit": 3.0}),
        )

    def critic_terms(self, step: Step) -> Terms:
        self.config.seen.append(step.batch.positions.tolist())
        return {"critic": (self.critic.w * step.batch.a).square().flatten(1).mean(1)}

    def both(self, step: Step) -> Terms:
        error = self.first.w * step.batch.a + self.second.w - step.batch.b
        fit = error.square().flatten(1).mean(1)
        if self.config.blow_up_at == step.images:
            fit = fit * float("nan")
        return {"fit": fit, "scalar": step.comm.log_mean_exp(fit)}

    def only_second(self, step: Step) -> Terms:
        return {"pull": (self.first.w * self.second.w).square().expand(len(step.batch))}

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        return (self.first.w * x + self.second.w).clamp(-1, 1)

    def translator_networks(self) -> tuple[str, ...]:
        return ("first", "second")

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        return {"toy": Config()}
