"""How a global batch is shared."""

import pytest
import torch

from i2idist.data.batches import Paired, share
from i2idist.errors import ConfigError


def test_shares_are_contiguous_whole_groups_of_almost_equal_length():
    for total, group, world in ((4, 1, 3), (12, 4, 2), (8, 2, 3), (7, 1, 7), (32, 8, 4)):
        parts = [share(total, group, rank, world) for rank in range(world)]
        assert [i for part in parts for i in part] == list(range(total))
        groups = [len(part) / group for part in parts]
        assert all(g == int(g) for g in groups) and max(groups) - min(groups) <= 1


def test_what_can_not_be_shared_is_refused():
    with pytest.raises(ConfigError, match="resources.num_workers <= 3"):
        share(6, 2, 0, 4)
    with pytest.raises(ConfigError, match="multiple of 4"):
        share(6, 4, 0, 1)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        share(0, 1, 0, 1)


def test_slicing_and_moving_keep_what_is_not_an_image():
    batch = Paired(positions=torch.arange(4), a=torch.zeros(4, 1, 2, 2), b=torch.ones(4, 3, 2, 2))
    part = batch[1:3].to(torch.device("cpu"), torch.float64, torch.channels_last)
    assert part.positions.tolist() == [1, 2] and part.positions.dtype == torch.int64
    assert part.b.dtype == torch.float64 and part.b.is_contiguous(memory_format=torch.channels_last)
