import math

import torch

from i2idist.losses.mutual_information import donsker_varadhan, jensen_shannon
from i2idist.train.comm import Comm


def test_jensen_shannon_by_hand():
    """sp(-0) = ln 2, sp(-ln 3) = ln 4/3; sp(0) = ln 2, sp(ln 3) = ln 4."""
    joint = torch.tensor([0.0, math.log(3)], dtype=torch.float64)
    marginal = torch.tensor([[0.0, math.log(3)], [-math.log(3), 0.0]], dtype=torch.float64)
    want = [
        -math.log(2) - (math.log(2) + math.log(4)) / 2,
        -math.log(4 / 3) - (math.log(4 / 3) + math.log(2)) / 2,
    ]
    torch.testing.assert_close(jensen_shannon(joint, marginal), torch.tensor(want, dtype=torch.float64))


def test_donsker_varadhan_by_hand():
    """The marginal's expectation is over all pairs: log((1 + 2 + 3 + 6) / 4) = ln 3."""
    joint = torch.tensor([1.0, 5.0], dtype=torch.float64)
    marginal = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64).log()
    estimate = donsker_varadhan(joint, marginal, Comm.alone().log_mean_exp)
    want = torch.tensor([1 - math.log(3), 5 - math.log(3)], dtype=torch.float64)
    torch.testing.assert_close(estimate, want)


def test_the_optimal_critic_reaches_the_mutual_information():
    """Two fair coins that always agree share ln 2 nats; T = log p(x, y) / (p(x) p(y)) attains both bounds."""
    agree, differ = math.log(2), -40.0
    joint = torch.full((4,), agree, dtype=torch.float64)
    marginal = torch.tensor([[agree, differ]] * 4, dtype=torch.float64)
    torch.testing.assert_close(donsker_varadhan(joint, marginal, Comm.alone().log_mean_exp).mean().item(), math.log(2))
    # 2 * JSD - 2 ln 2, the divergence of (1/2, 1/2, 0, 0) from the uniform distribution on four outcomes
    jsd = 0.5 * (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    torch.testing.assert_close(jensen_shannon(joint, marginal).mean().item(), 2 * jsd - 2 * math.log(2))
