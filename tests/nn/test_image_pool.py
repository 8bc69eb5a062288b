import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from i2idist.nn.image_pool import ImagePool
from i2idist.train.comm import Comm


class Together:
    """Workers in threads of this process, whose `gather` really waits for all."""

    def __init__(self, rank, world_size, barrier, board):
        self.rank, self.world_size, self._barrier, self._board = rank, world_size, barrier, board

    def gather(self, x):
        self._board[self.rank] = x
        self._barrier.wait(10)
        everyone = torch.cat([self._board[rank] for rank in range(self.world_size)])
        self._barrier.wait(10)
        return everyone


def fakes(n, start=0):
    return torch.arange(start, start + n, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 2).clone()


def numbers(images):
    return images[:, 0, 0, 0].tolist()


def by_list(size, values, draws):
    """The pool as a person would write it."""
    kept, given = [], []
    for value, (swap, slot) in zip(values, draws.tolist(), strict=True):
        if len(kept) < size:
            kept.append(value)
            given.append(value)
        elif swap >= 0.5:
            index = int(slot * size)
            given.append(kept[index])
            kept[index] = value
        else:
            given.append(value)
    return given, kept


def test_fills_then_swaps():
    pool = ImagePool(2, 1, 2, 2)
    draws = torch.tensor([[0.9, 0.9], [0.9, 0.0], [0.4, 0.0], [0.5, 0.0], [0.9, 0.6], [0.9, 0.4]])
    given = pool(fakes(6), draws, Comm.alone())
    assert numbers(given) == [0, 1, 2, 0, 1, 3]
    assert numbers(pool.images) == [5, 4]
    assert pool.count == 2


def test_equals_a_list_over_many_steps():
    torch.manual_seed(0)
    pool, draws, given = ImagePool(5, 1, 2, 2), torch.rand(40, 2), []
    for start in range(0, 40, 4):
        given += numbers(pool(fakes(4, start), draws[start : start + 4], Comm.alone()))
    want, kept = by_list(5, list(range(40)), draws)
    assert given == want
    assert numbers(pool.images) == kept


def test_three_workers_hold_the_same_pool_and_give_what_one_gives():
    torch.manual_seed(1)
    draws, bounds = torch.rand(30, 2), [slice(0, 4), slice(4, 7), slice(7, 10)]
    barrier, board = threading.Barrier(3), {}
    pools = [ImagePool(4, 1, 2, 2) for _ in range(3)]

    def work(rank):
        comm, mine = Together(rank, 3, barrier, board), []
        for start in range(0, 30, 10):
            part = pools[rank](fakes(10, start)[bounds[rank]], draws[start : start + 10][bounds[rank]], comm)
            mine.append(numbers(part))
        return mine

    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(work, range(3)))
    given = [value for step in range(3) for rank in range(3) for value in results[rank][step]]
    want, kept = by_list(4, list(range(30)), draws)
    assert given == want
    assert all(numbers(pool.images) == kept for pool in pools)


def test_eval_mode_and_size_zero_leave_fakes_alone():
    pool = ImagePool(1, 1, 2, 2)
    pool(fakes(1), torch.rand(1, 2), Comm.alone())
    pool.eval()
    assert numbers(pool(fakes(3, 5), torch.ones(3, 2) * 0.9, Comm.alone())) == [5, 6, 7]
    assert numbers(pool.images) == [0]
    assert numbers(ImagePool(0, 1, 2, 2)(fakes(3), torch.rand(3, 2), Comm.alone())) == [0, 1, 2]


def test_all_of_it_is_in_the_state():
    pool, copy = ImagePool(3, 1, 2, 2), ImagePool(3, 1, 2, 2)
    draws = torch.rand(8, 2)
    pool(fakes(5), draws[:5], Comm.alone())
    copy.load_state_dict(pool.state_dict())
    later = [numbers(p(fakes(3, 5), draws[5:], Comm.alone())) for p in (pool, copy)]
    assert later[0] == later[1]
