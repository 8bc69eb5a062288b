"""What a classifier says of translated and generated images: how often it agrees, and how sure it is.

Every function takes the classifier's scores, so that any network can give them, and returns one value an input (the
metric is their mean), except where classes are reported one by one.

- Transfer accuracy (TI-GAN, Table 1): translations of the source's validation set against the source's labels, by a
  classifier trained on the target domain alone.
- Classifier error (MineGAN, appendix A.2.2): generated images against the class that they should be of.
- Reverse classification (SDIT, section 6.4): a classifier trained on translations, tested on real images.
- Misclassification rate and drop in confidence (UDIT, section 5.6.3): on a label that translation should keep.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from i2idist.errors import ConfigError
from i2idist.metrics import checks

Scorer = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) -> scores (N, classes)."""


def transfer_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """The share of each input's outputs whose highest score is that of the label; the lowest class among equals.

    Args:
        scores: (N, classes) or (N, K, classes) probabilities or logits of the outputs.
        labels: (N,) int64, the input's label.

    Returns:
        (N,) float64 in [0, 1].

    Raises:
        ConfigError: shapes that don't belong together, a label that is no class, or a score that isn't finite.
    """
    scores = _scores_of(scores, labels)
    return (scores.argmax(2) == labels[:, None]).double().mean(1)


def misclassification_rate(scores: Tensor, labels: Tensor) -> Tensor:
    """The share of each input's outputs that are taken for another class than the input's true one.

    Arguments, shapes and errors as in `transfer_accuracy`; (N,) float64 in [0, 1].
    """
    return 1 - transfer_accuracy(scores, labels)


def errors_by_class(scores: Tensor, intended: Tensor) -> Tensor:
    """What `classifier_error` needs of each input: whether it is of each class, and how wrongly it is read.

    Args:
        scores: (N, classes) or (N, K, classes) of generated images.
        intended: (N,) int64, the class that each should be of.

    Returns:
        (N, 2 * classes) float64: for each class 1 in the row of its own inputs, then there the share of outputs that
        are taken for another one.

    Raises:
        ConfigError: as `transfer_accuracy`.
    """
    wrong = misclassification_rate(scores, intended)
    own = functional.one_hot(intended, scores.shape[-1]).double()
    return torch.cat([own, own * wrong[:, None]], 1)


def classifier_error(sums: Tensor) -> Tensor:
    """The share of generated images of each class that are taken for another one.

    Args:
        sums: (..., 2 * classes), sums or means of `errors_by_class`'s rows.

    Returns:
        (..., classes) float64 in [0, 1], NaN for a class of which there is no image: take `nanmean` for the mean error.
    """
    images, wrong = sums.chunk(2, -1)
    return wrong / images


def confidence_drop(inputs: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
    """f(x) - f(x_i->j), f being the probability of x's true label, averaged over each input's outputs.

    Args:
        inputs: (N, classes) probabilities of the inputs.
        outputs: (N, classes) or (N, K, classes) probabilities of the translations.
        labels: (N,) int64.

    Returns:
        (N,) float64 in [-1, 1]; negative where translation makes the classifier surer.

    Raises:
        ConfigError: as `transfer_accuracy`, or what aren't probabilities.
    """
    before, after = (_probabilities_of(scores, labels) for scores in (inputs, outputs))
    if before.shape[1:] != (1, after.shape[2]):
        raise ConfigError(f"A drop in confidence needs (N, {after.shape[2]}) of the inputs, not {tuple(inputs.shape)}.")
    own = labels[:, None, None]
    return before.take_along_dim(own, 2).mean((1, 2)) - after.take_along_dim(own, 2).mean((1, 2))


def reverse_classification(
    train: Callable[[Tensor, Tensor], Scorer], translated: Tensor, targets: Tensor, real: Tensor, labels: Tensor
) -> Tensor:
    """Whether a classifier that has seen translations alone reads each real image rightly.

    It punishes outputs that don't vary, which a classifier of real images doesn't: what they leave out isn't learnt.

    Args:
        train: makes a classifier of images and their labels.
        translated: (N, C, H, W) translations, those of one input one after another.
        targets: (N,) int64, the domain or class that each was translated to.
        real: (M, C, H, W) real images, none of them an input.
        labels: (M,) int64, in the numbering of `targets`.

    Returns:
        (M,) float64, 1 where it does and 0 where not.

    Raises:
        ConfigError: translations of one class only, images and labels that don't belong together, and as
            `transfer_accuracy`.
    """
    classes = len(set(targets.tolist()))
    if len(translated) != len(targets) or classes < 2:
        raise ConfigError(
            f"Reverse classification needs translations to 2 classes at least, one label each, not {len(targets)} "
            f"labels of {classes} classes for {len(translated)} images."
        )
    return transfer_accuracy(train(translated, targets)(real), labels)


def _scores_of(scores: Tensor, labels: Tensor) -> Tensor:
    """Scores as (N, K, classes), if they fit the labels."""
    scores = checks.finite(checks.samples_of(scores, len(labels), 1, "Scores"), "Scores")
    if labels.dim() != 1 or int(labels.min()) < 0 or int(labels.max()) >= scores.shape[2]:
        raise ConfigError(f"A label is {int(labels.max())}; the classifier knows the classes 0..{scores.shape[2] - 1}.")
    return scores


def _probabilities_of(scores: Tensor, labels: Tensor) -> Tensor:
    """Probabilities as (N, K, classes) float64, if they are such and fit the labels."""
    scores = _scores_of(scores, labels).double()
    checks.probabilities(scores, "Confidences")
    return scores
