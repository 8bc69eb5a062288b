import math

import torch

from i2idist.losses.classification import binary_cross_entropy, cross_entropy

LN3 = math.log(3)


def test_cross_entropy_by_hand():
    """Softmax of (ln 3, 0) is (3/4, 1/4)."""
    logits = torch.tensor([[LN3, 0.0], [LN3, 0.0]], dtype=torch.float64)
    found = cross_entropy(logits, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([math.log(4 / 3), math.log(4)], dtype=torch.float64))


def test_binary_cross_entropy_adds_attributes():
    """Sigmoid of ln 3 is 3/4, of 0 is 1/2."""
    logits = torch.tensor([[LN3, 0.0], [LN3, 0.0]], dtype=torch.float64)
    found = binary_cross_entropy(logits, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([math.log(8 / 3), math.log(8)], dtype=torch.float64))


def test_half_precision_is_computed_in_float32():
    logits, labels = torch.zeros(1, 2, dtype=torch.bfloat16), torch.tensor([[0.0, 1.0]])
    assert {cross_entropy(logits, labels).dtype, binary_cross_entropy(logits, labels).dtype} == {torch.float32}
