import time
from collections import Counter

import numpy as np
import pytest

from i2idist.data.batches import share
from i2idist.data.order import Order
from i2idist.errors import ConfigError


def order(counts, batch_size=8, streams=4, block=16, seed=0, pool="a"):
    return Order(counts, batch_size=batch_size, streams=streams, block=block, seed=seed, pool=pool)


@pytest.mark.parametrize(
    ("counts", "batch_size", "streams", "block"),
    [
        ([10] * 5, 8, 16, 4),  # the batch doesn't divide the pool
        ([7, 3, 11], 5, 16, 1024),  # one stream, one block
        ([1], 4, 2, 3),  # several epochs in a batch
        ([100] * 16, 32, 16, 8),
        ([3, 1], 7, 7, 1),
        ([50, 1, 400, 9], 24, 16, 10),
    ],
)
def test_every_epoch_holds_every_sample_once(counts, batch_size, streams, block):
    drawn = order(counts, batch_size, streams, block)
    n = drawn.length
    for epoch in (0, 1, 2, 57):
        assert sorted(drawn.samples(range(epoch * n, (epoch + 1) * n))) == list(range(n))


def test_a_position_gives_the_same_sample_whatever_was_read_before():
    far = range(10_000, 10_200)
    read_through = order([30] * 7).samples(range(10_200))[10_000:]
    assert np.array_equal(order([30] * 7).samples(far), read_through)
    one_by_one = [order([30] * 7).samples([position])[0] for position in list(far)[::29]]
    assert one_by_one == list(read_through[::29])


def test_seed_pool_and_epoch_change_the_order():
    n = 210
    base = order([30] * 7).samples(range(n))
    for other in (order([30] * 7, seed=1), order([30] * 7, pool="b")):
        assert (other.samples(range(n)) == base).mean() < 0.1
    assert (order([30] * 7).samples(range(n, 2 * n)) == base).mean() < 0.1


def test_places_dont_tie_the_same_parts_of_two_pools():
    def part_of_first_place(seed, pool):
        return order([30] * 8, seed=seed, pool=pool).samples([0])[0] // 60

    assert len({part_of_first_place(seed, "a") for seed in range(20)}) == 4
    assert 0 < sum(part_of_first_place(seed, "a") == part_of_first_place(seed, "b") for seed in range(20)) < 15


def test_an_order_is_shuffled_over_the_whole_range_of_a_stream():
    """Neighbours in storage are drawn far apart, and early places see late samples."""
    drawn = order([500, 500], batch_size=1, streams=1, block=200).samples(range(1000))
    steps = np.abs(np.diff(drawn))
    assert np.median(steps) > 50
    assert np.corrcoef(np.arange(1000), drawn)[0, 1] < 0.9


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_a_worker_reads_only_its_own_shards_when_workers_divide_the_streams(workers):
    counts, batch_size = [64] * 16, 32
    drawn = order(counts, batch_size, streams=8)
    shards = [set() for _ in range(workers)]
    for batch in range(2 * sum(counts) // batch_size):
        for rank in range(workers):
            places = share(batch_size, 1, rank, workers)
            samples = drawn.samples([batch * batch_size + place for place in places])
            shards[rank] |= {int(sample) // 64 for sample in samples}
    assert Counter(len(own) for own in shards) == {16 // workers: workers}
    assert set.union(*shards) == set(range(16))


def test_uneven_shards_are_shared_only_at_the_edges_of_streams():
    counts = [90, 110, 70, 130, 105, 95, 80, 120, 100, 101]
    drawn = order(counts, batch_size=16, streams=4)
    owners = [set() for _ in counts]
    for position in range(3 * drawn.length):
        shard = int(np.searchsorted(drawn.starts, drawn.samples([position])[0], side="right")) - 1
        owners[shard].add(position % 16 // 4)
    assert sum(len(own) - 1 for own in owners) <= 4  # four streams have four edges, the last being the first


def test_streams_keep_few_shards_open():
    drawn = order([1000] * 8, batch_size=1, streams=1, block=100)
    shards = drawn.samples(range(8000)) // 1000
    assert max(len(set(shards[place : place + 100])) for place in range(0, 8000, 100)) <= 2


def test_late_positions_of_a_large_pool_are_reached_at_once():
    start = time.perf_counter()
    drawn = order([10_000] * 200, batch_size=32, streams=16, block=1024)
    assert drawn.length == 2_000_000
    samples = drawn.samples(range(32 * 10**9, 32 * 10**9 + 32))
    assert time.perf_counter() - start < 2.0
    assert len(set(samples)) == 32


@pytest.mark.parametrize("name", ["batch_size", "streams", "block"])
def test_sizes_must_be_positive(name):
    with pytest.raises(ConfigError, match="must be at least 1"):
        order([4], **{name: 0})
