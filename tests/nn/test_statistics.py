import pytest
import torch
from torch import nn

from i2idist.nn.statistics import StatisticsNetwork

CODE_BRANCH = (8 * 512 + 512) + (512 * 1024 + 1024)
SCORE = 1024 + 1


def convolutions(channels, widths):
    return sum(4 * 4 * a * b + b for a, b in zip([channels, *widths], widths, strict=False))


@pytest.mark.parametrize(
    ("size", "widths"),
    [(256, [32, 64, 128, 256, 512, 1024]), (128, [32, 64, 128, 256, 512])],
    ids=["Table 3", "Table 4"],
)
def test_the_papers_tables(size, widths):
    with torch.device("meta"):
        net = StatisticsNetwork(3, (size, size), 8, width=32, hidden=1024)
        x, z = torch.empty(2, 3, size, size), torch.empty(2, 5, 8)
    convs = [layer for layer in net.image if isinstance(layer, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == widths
    assert all(conv.kernel_size == (4, 4) and conv.stride == (2, 2) for conv in convs)
    kinds = [type(layer).__name__ for layer in net.image]
    assert kinds == ["Conv2d", "ELU"] * len(widths) + ["Flatten", "Linear"]
    assert [type(layer).__name__ for layer in net.code] == ["Linear", "ELU", "Linear"]
    assert [(net.code[i].in_features, net.code[i].out_features) for i in (0, 2)] == [(8, 512), (512, 1024)]
    flat = widths[-1] * 4 * 4
    assert (net.image[-1].in_features, net.image[-1].out_features) == (flat, 1024)
    total = convolutions(3, widths) + flat * 1024 + 1024 + CODE_BRANCH + SCORE
    assert sum(p.numel() for p in net.parameters()) == total
    assert net(x, z).shape == (2, 5)


@pytest.mark.parametrize(
    ("size", "widths", "flat"),
    [((32, 32), [8, 16, 32], 32 * 16), ((33, 70), [8, 16, 32], 32 * 4 * 8), ((8, 8), [8], 8 * 16), ((6, 5), [8], 48)],
)
def test_other_sizes_by_the_same_rule(size, widths, flat):
    net = StatisticsNetwork(1, size, 3, width=8, hidden=16)
    assert [layer.out_channels for layer in net.image if isinstance(layer, nn.Conv2d)] == widths
    assert net.image[-1].in_features == flat
    assert net(torch.randn(2, 1, *size), torch.randn(2, 4, 3)).shape == (2, 4)


def test_each_pair_is_scored_by_itself():
    net = StatisticsNetwork(1, (8, 8), 3, width=4, hidden=16)
    x, z = torch.randn(2, 1, 8, 8), torch.randn(2, 3, 3)
    scores = net(x, z)
    for i in range(2):
        for j in range(3):
            branches = net.image(x[i : i + 1]) + net.code(z[i, j][None])
            torch.testing.assert_close(scores[i, j], net.score(nn.functional.elu(branches))[0, 0])


def test_scores_are_no_sum_of_a_function_of_the_image_and_one_of_the_code():
    """Such a sum can't tell dependent pairs from independent ones."""
    torch.manual_seed(0)
    net = StatisticsNetwork(1, (8, 8), 3, width=4, hidden=16)
    scores = net(torch.randn(2, 1, 8, 8) * 5, torch.randn(1, 2, 3).expand(2, -1, -1) * 5)
    assert (scores[0, 0] - scores[0, 1] - scores[1, 0] + scores[1, 1]).abs() > 1e-2
