"""A small sound method, and variants of it that each break one promise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from i2idist.data.batches import Batch, Paired
from i2idist.errors import SizeError
from i2idist.method import Adam, Domains, Method, Player, Step, Terms, Update


@dataclass(frozen=True, kw_only=True)
class Config:
    lambda_l1: float = 10.0


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.code = nn.Linear(2, 3)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return (self.conv(x) + self.code(z)[:, :, None, None]).tanh()


class Sound(Method):
    """One generator and one critic; the critic's loss holds an estimate over the whole batch."""

    Config = Config
    code_dim = 2

    def __init__(self, config: Config, domains: Domains) -> None:
        super().__init__()
        self.config = config
        self.G = Generator()
        self.D = nn.Conv2d(3, 1, 3, stride=2)

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        return {"only": Config()}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        return Paired

    def players(self) -> tuple[Player, ...]:
        return (
            Player(name="generator", networks=("G",), optimizer=Adam(lr=1e-3), ema=True),
            Player(name="critic", networks=("D",), optimizer=Adam(lr=1e-3)),
        )

    def updates(self) -> tuple[Update, ...]:
        return (
            Update(player="generator", backward=self.generator_terms),
            Update(player="critic", backward=self.critic_terms),
        )

    def fake(self, step: Step) -> Tensor:
        return self.G(step.batch.a, step.normal("z", 2))

    def score(self, x: Tensor) -> Tensor:
        return self.D(x).flatten(1).mean(1)

    def whole_batch(self, scores: Tensor, step: Step) -> Tensor:
        return step.comm.log_mean_exp(scores)

    def generator_terms(self, step: Step) -> Terms:
        fake = self.fake(step)
        step.share(fake=fake)
        return {"gan": -self.score(fake), "l1": (fake - step.batch.b).abs().flatten(1).mean(1)}

    def critic_terms(self, step: Step) -> Terms:
        scores = self.score(step.shared.fake)
        return {"bound": self.whole_batch(scores, step), "real": self.score(step.batch.b).square()}

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        assert code is not None
        return self.G(x, code)

    def translator_networks(self) -> tuple[str, ...]:
        return ("G",)


class LocalMean(Sound):
    """The estimate is made on each worker's part of the batch."""

    def whole_batch(self, scores: Tensor, step: Step) -> Tensor:
        return torch.logsumexp(scores, 0)


class HiddenState(Sound):
    """A counter outside the state changes the loss."""

    calls = 0

    def critic_terms(self, step: Step) -> Terms:
        self.calls += 1
        return {"bound": self.score(step.shared.fake).square() * self.calls}


class UnkeyedNoise(Sound):
    """Noise comes from torch's global generator, by rank."""

    def fake(self, step: Step) -> Tensor:
        torch.manual_seed(step.comm.rank + step.images)
        return self.G(step.batch.a, torch.randn(len(step.batch), 2, dtype=step.batch.a.dtype))


class TrainsOthers(Sound):
    """The critic's loss changes the generator by itself."""

    def critic_terms(self, step: Step) -> Terms:
        with torch.no_grad():
            self.G.conv.bias.add_(1e-3)
        return super().critic_terms(step)


class LeavesOut(Sound):
    """The critic never steps."""

    def updates(self) -> tuple[Update, ...]:
        return super().updates()[:1]


class PicklesState(Sound):
    """State that isn't a tensor would need pickle."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}


class Raises(Sound):
    """A mistake of the method's own."""

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        raise ValueError("a mistake")


class IgnoresCode(Sound):
    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        return self.G(x, x.new_zeros(len(x), 2))


class LooksAround(Sound):
    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        return super().translate(x - x.mean(), code)


class OutOfRange(Sound):
    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        return 3 * super().translate(x, code)


class RefusesWithoutHelp(Sound):
    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        if x.shape[2] % 4:
            raise SizeError("wrong size")
        return super().translate(x, code)
