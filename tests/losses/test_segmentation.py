import torch
from torch.nn import functional

from i2idist.losses.segmentation import pixel_cross_entropy


def test_is_torchs_over_labelled_pixels():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 5, 6), torch.randint(0, 4, (3, 5, 6))
    labels[0, :3] = 9  # unlabelled
    hot = functional.one_hot(labels.clamp_max(4), 5)[..., :4].permute(0, 3, 1, 2)
    wanted = torch.stack(
        [functional.cross_entropy(logits[n : n + 1], labels[n : n + 1], ignore_index=9) for n in range(3)]
    )
    torch.testing.assert_close(pixel_cross_entropy(logits, hot), wanted)


def test_soft_labels_by_hand():
    logits = torch.tensor([0.0, 3.0]).log1p().reshape(1, 2, 1, 1)  # probabilities 1/5, 4/5
    labels = torch.tensor([0.25, 0.75]).reshape(1, 2, 1, 1)
    wanted = -(0.25 * torch.tensor(0.2).log() + 0.75 * torch.tensor(0.8).log())
    torch.testing.assert_close(pixel_cross_entropy(logits, labels), wanted[None])


def test_nothing_labelled_is_no_loss():
    assert pixel_cross_entropy(torch.randn(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)).tolist() == [0, 0]
