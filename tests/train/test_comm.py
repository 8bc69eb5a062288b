"""Collectives against the same computation on one worker."""

import torch
from torch import Tensor

from i2idist.train.comm import Comm

LENGTHS = (3, 1, 4)


def _parts(comm: Comm, x: Tensor) -> Tensor:
    return x.split(LENGTHS)[comm.rank] if comm.world_size > 1 else x


def _values() -> Tensor:
    return torch.randn(sum(LENGTHS), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _gradients(comm: Comm, name: str) -> list[Tensor]:
    """A loss through a collective: its value, its gradient, and the gradient of a penalty on that gradient."""
    w = torch.tensor([0.3, -0.7], dtype=torch.float64, requires_grad=True)
    x = (_parts(comm, _values()) * w).tanh()
    if name == "sum":
        loss = comm.sum(x.sum(0)).square().sum()
    elif name == "gather":
        loss = (comm.gather(x).flip(0)[:, 0].cumsum(0) * torch.arange(sum(LENGTHS))).sum()
    else:
        loss = comm.log_mean_exp(5 * x[:, 0])
    part = loss / comm.world_size
    (first,) = torch.autograd.grad(part, w, create_graph=True)
    first = comm.sum(first)
    (second,) = torch.autograd.grad(first.square().sum() / comm.world_size, w)
    return [loss.detach(), first.detach(), comm.total(second)]


def _max(comm: Comm, values: list[float]) -> tuple[float, int]:
    largest, index = comm.max(_parts(comm, torch.tensor(values)))
    return float(largest), int(index)


def _flags(comm: Comm) -> tuple[list[int], list[float]]:
    gradients = [torch.full((2,), float(comm.rank + 1)), torch.ones(3, dtype=torch.float64)]
    if comm.rank == 1:
        gradients[1][0] = float("nan")
    ranks = comm.reduce_gradients(gradients)
    return ranks, gradients[0].tolist()


def _same(comm: Comm) -> tuple[bool, bool]:
    equal = torch.arange(5.0)
    other = equal.clone()
    if comm.rank == 2:
        other[3] = torch.nextafter(other[3], torch.tensor(9.0))
    return comm.same([equal]), comm.same([equal, other])


def _any_and_objects(comm: Comm) -> tuple[bool, bool, list[int], int]:
    return (
        comm.any(comm.rank == 1),
        comm.any(False),
        comm.gather_objects(comm.rank * 10),
        comm.broadcast_object(comm.rank + 5),
    )


def test_collectives_and_their_first_and_second_gradients_equal_one_worker(pool):
    for name in ("sum", "gather", "log_mean_exp"):
        one = pool.run(_gradients, 1, name=name)
        three = pool.run(_gradients, 3, name=name)
        for a, b in zip(one, three, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-14)


def test_log_mean_exp_by_hand_and_without_overflow(pool):
    assert torch.allclose(Comm.alone().log_mean_exp(torch.tensor([0.0, 0.0])), torch.tensor(0.0))
    assert torch.allclose(Comm.alone().log_mean_exp(torch.tensor([1000.0, 1000.0])), torch.tensor(1000.0))
    expected = torch.tensor([1.0, 3.0]).exp().mean().log()
    assert torch.allclose(Comm.alone().log_mean_exp(torch.tensor([1.0, 3.0])), expected)


def test_max_breaks_ties_by_lowest_index(pool):
    values = [1.0, 2.0, 7.0, 7.0, 0.0, 7.0, 3.0, 2.0]
    assert pool.run(_max, 1, values=values) == (7.0, 2)
    assert pool.run(_max, 3, values=values) == (7.0, 2)


def test_a_gradient_that_is_not_finite_is_known_to_all_with_its_rank(pool):
    ranks, first = pool.run(_flags, 3)
    assert ranks == [1]
    assert first == [6.0, 6.0]


def test_same_finds_one_differing_bit(pool):
    assert pool.run(_same, 3) == (True, False)


def test_flags_and_objects_travel(pool):
    assert pool.run(_any_and_objects, 3) == (True, False, [0, 10, 20], 5)
