import math

import torch
from torch.distributions import Normal, kl_divergence

from i2idist.losses.latent import kl_to_standard_normal


def test_by_hand():
    """Code 1: N(1, 1) and N(0, 4): (1 + 3 - ln 4) / 2; code 2 is standard normal."""
    mean = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    log_variance = torch.tensor([[0.0, math.log(4)], [0.0, 0.0]], dtype=torch.float64)
    want = torch.tensor([(4 - math.log(4)) / 2, 0.0], dtype=torch.float64)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), want)


def test_it_is_the_divergence():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 3, 4).unbind()
    want = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), want)
    assert kl_to_standard_normal(mean.bfloat16(), log_variance.bfloat16()).dtype == torch.float32
