import math

import pytest
import torch

from i2idist.losses import adversarial

LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)
LOGITS = torch.tensor([[[[0.0, LN3]]], [[[-LN3, -LN3]]]], dtype=torch.float64)
"""D = 1/2 and 3/4 on the first sample's two patches, 1/4 on both of the second's."""


@pytest.mark.parametrize(
    ("loss", "want"),
    [
        (adversarial.log_real, [(LN2 + LN4 - LN3) / 2, LN4]),
        (adversarial.log_fake, [(LN2 + LN4) / 2, LN4 - LN3]),
        (adversarial.non_saturating, [(LN2 + LN4 - LN3) / 2, LN4]),
        (adversarial.minimax, [-(LN2 + LN4) / 2, LN3 - LN4]),
        (adversarial.least_squares_real, [(1 + (LN3 - 1) ** 2) / 2, (LN3 + 1) ** 2]),
        (adversarial.least_squares_fake, [LN3**2 / 2, LN3**2]),
        (adversarial.wasserstein_real, [-LN3 / 2, LN3]),
        (adversarial.wasserstein_fake, [LN3 / 2, -LN3]),
        (adversarial.hinge_real, [1 / 2, 1 + LN3]),
        (adversarial.hinge_fake, [(2 + LN3) / 2, 0.0]),
    ],
)
def test_by_hand(loss, want):
    torch.testing.assert_close(loss(LOGITS), torch.tensor(want, dtype=torch.float64), rtol=1e-14, atol=0)


@pytest.mark.parametrize("loss", [adversarial.log_real, adversarial.log_fake])
def test_log_losses_stay_exact_far_from_zero(loss):
    sign = -1 if loss is adversarial.log_real else 1
    far = torch.tensor([800.0, 30.0], dtype=torch.float64) * sign
    torch.testing.assert_close(loss(far), torch.tensor([800.0, 30.0 + math.log1p(math.exp(-30))], dtype=torch.float64))
    assert loss(-far)[0] == 0


def test_scales_are_added():
    scales = (torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0]]))
    assert adversarial.over_scales(adversarial.least_squares_fake, scales).tolist() == [5.0 + 4.0]


def test_half_precision_is_averaged_in_float32():
    loss = adversarial.least_squares_fake(torch.ones(1, 1, 30, 31, dtype=torch.bfloat16))
    assert loss.dtype == torch.float32
