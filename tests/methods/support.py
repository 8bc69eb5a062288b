"""Known functions in place of networks, and steps whose draws are given."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from i2idist.data.batches import Batch
from i2idist.method import Domain, Domains, Method, Step
from i2idist.train.comm import Comm


def domains(a: int = 1, b: int = 3, size: tuple[int, int] = (16, 16)) -> Domains:
    return Domains((Domain("a", a, *size), Domain("b", b, *size)))


def make(method: type[Method], a: int = 1, b: int = 3, size: tuple[int, int] = (16, 16), seed: int = 0, **config):
    """A method from its first tiny config with `config` changed; seeded."""
    first = next(iter(method.tiny().values()))
    torch.manual_seed(seed)
    return method(method.Config(**{**vars(first), **config}), domains(a, b, size))


class Known(nn.Module):
    """A function with one parameter `w`, that counts its calls and keeps what it was given."""

    def __init__(self, function: Callable[..., object], w: float = 1.0) -> None:
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))
        self.calls: list[tuple[Tensor, ...]] = []

    def forward(self, *args: Tensor) -> object:
        self.calls.append(args)
        return self.function(self.w, *args)


class Drawn(Step):
    """A step whose normal draws are given by purpose."""

    def __init__(self, batch: Batch, draws: Mapping[str, Tensor]) -> None:
        super().__init__(batch, images=0, seed=0, comm=Comm.alone(), weights={}, global_batch=len(batch))
        self.draws = draws

    def normal(self, purpose: str, *shape: int, per_sample: int = 1) -> Tensor:
        drawn = self.draws[purpose]
        assert drawn.shape == (len(self.batch) * per_sample, *shape)
        return drawn


def step_of(batch: Batch, seed: int = 0) -> Step:
    return Step(batch, images=0, seed=seed, comm=Comm.alone(), weights={}, global_batch=len(batch))


def flat(*values: float) -> Tensor:
    """One-channel 16x16 images, each of one value: (N, 1, 16, 16) float64."""
    return torch.tensor(values, dtype=torch.float64)[:, None, None, None].expand(-1, 1, 16, 16).contiguous()


def mean(x: Tensor) -> Tensor:
    """(N, ...) -> (N, 1, 1, 1)."""
    return x.mean((1, 2, 3), keepdim=True)


def close(terms: Mapping[str, Tensor], **want: list[float]) -> None:
    """The terms are these, and no others."""
    assert list(terms) == list(want)
    for name, values in want.items():
        torch.testing.assert_close(terms[name], torch.tensor(values, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def check_shared_work(method: Method, batch: Batch, straightforward: Mapping[str, Callable[[Step], Tensor]]) -> None:
    """Each update's total and gradients are those of the form that makes all anew; players step in between.

    Args:
        method: in float64.
        batch: of its kind.
        straightforward: by player, the weighted sum of its update's terms, (N,); it names the update whose draws it
            repeats by `step.begin`.
    """
    ours, theirs, weights = step_of(batch, seed=5), step_of(batch, seed=5), method.weights()
    for update in method.stages()[0].updates:
        assert callable(update.backward)
        ours.begin(update.player)
        terms = update.backward(ours)
        found = sum(weights.get(name, 1.0) * value for name, value in terms.items()).mean()
        wanted = straightforward[update.player](theirs).mean()
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
        networks = next(player.networks for player in method.players() if player.name == update.player)
        parameters = list({p: None for name in networks for p in getattr(method, name).parameters()})
        mine, others = (torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (found, wanted))
        largest = max(float(g.abs().max()) for g in others)
        assert largest > 0
        assert all(float((a - b).abs().max()) <= 1e-10 * largest for a, b in zip(mine, others, strict=True))
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(0.9)
