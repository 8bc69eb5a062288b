"""What a worker keeps of the images that it sees, one function for each kind of protocol.

All take images through networks a fixed few at a time, so that memory stays bounded and bits don't depend on who works.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from i2idist.data.transforms import to_levels
from i2idist.errors import ConfigError
from i2idist.evaluate.seen import Maps, Reals, Rows, Seen, Tools
from i2idist.metrics import classification, depth, diversity, pixels, segmentation
from i2idist.metrics.edges import edge_iou
from i2idist.metrics.identity import id_distance
from i2idist.metrics.intervals import GROUPS
from i2idist.metrics.variance import Variances

IMAGES_AT_ONCE = 16


def _in_parts(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([function(part) for part in torch.split(images, IMAGES_AT_ONCE)])


def _of_each(function: Callable[[Tensor], Tensor], seen: Seen) -> Tensor:
    """What `function` gives for each output: (N, K, ...)."""
    found = _in_parts(function, seen.outputs.flatten(0, 1))
    return found.reshape(*seen.outputs.shape[:2], *found.shape[1:])


def all_pairs(seen: Seen, tools: Tools) -> Rows:
    """Each input's mean distance over all pairs of its outputs."""
    pairs = diversity.all_pairs(seen.outputs.shape[1])
    return {"value": diversity.tabled_pair_distances(seen.outputs, pairs, tools.network.distances).mean(1)}


def pairs_19(seen: Seen, tools: Tools) -> Rows:
    """Each input's mean distance over 19 random pairs of its outputs."""
    pairs = diversity.random_pairs(seen.outputs.shape[1], 19, seen.places, seen.seed)
    return {"value": diversity.tabled_pair_distances(seen.outputs, pairs, tools.network.distances).mean(1)}


def features(seen: Seen, tools: Tools) -> Rows:
    """Each input's outputs' features."""
    return {"features": _of_each(tools.network.features, seen)}


def real_features(reals: Reals, tools: Tools) -> Rows:
    """Every real image's features, and whether a generator may have learnt from it."""
    train = torch.full((len(reals.images),), reals.seen_in_training)
    return {"features": _in_parts(tools.network.features, reals.images), "train": train}


def network_probabilities(seen: Seen, tools: Tools) -> Rows:
    """The network's probabilities of each input's outputs."""
    return {"probabilities": _of_each(tools.network.probabilities, seen)}


def class_probabilities(seen: Seen, tools: Tools) -> Rows:
    """The classifier's probabilities of each input's outputs."""
    return {"probabilities": _of_each(_scorer(tools), seen).softmax(2)}


def class_is_kept(seen: Seen, tools: Tools) -> Rows:
    """The share of each input's outputs in which the classifier sees the input's class."""
    return {"value": classification.transfer_accuracy(_of_each(_scorer(tools), seen), labels_of(seen, tools))}


def class_is_read(seen: Seen, tools: Tools) -> Rows:
    """Whether the classifier sees the class of each input, untranslated."""
    return _of_inputs(_scorer(tools), seen, tools)


def class_is_read_by_model(seen: Seen, tools: Tools) -> Rows:
    """Whether the model's own classifier sees the class of each input."""
    return _of_inputs(tools.own, seen, tools)


def _of_inputs(score: Callable[[Tensor], Tensor], seen: Seen, tools: Tools) -> Rows:
    scores = _in_parts(score, seen.inputs)
    return {"value": classification.transfer_accuracy(scores[:, None], labels_of(seen, tools))}


def class_is_lost(seen: Seen, tools: Tools) -> Rows:
    """The share of each input's outputs in which the classifier sees another class than the input's."""
    return {"value": classification.misclassification_rate(_of_each(_scorer(tools), seen), labels_of(seen, tools))}


def class_errors(seen: Seen, tools: Tools) -> Rows:
    """Of each class, whether the input's outputs should be of it and how often they aren't read so."""
    scores = _of_each(_scorer(tools), seen)
    return {"value": classification.errors_by_class(scores, labels_of(seen, tools))}


def confidence_drop(seen: Seen, tools: Tools) -> Rows:
    """How much less sure of the true class the classifier is of the outputs than of the input."""
    score = _scorer(tools)
    before, after = _in_parts(score, seen.inputs).softmax(1), _of_each(score, seen).softmax(2)
    return {"value": classification.confidence_drop(before, after, labels_of(seen, tools))}


def _scorer(tools: Tools) -> Callable[[Tensor], Tensor]:
    """The classifier's logits, (N, classes), those of an attribute being of its absence and presence.

    It takes grey images for coloured ones, or the mean of colours for grey, as it was trained.
    """
    classifier, attribute = tools.classifier, tools.attribute
    channels = next(classifier.parameters()).shape[1]

    def score(images: Tensor) -> Tensor:
        if images.shape[1] not in (1, channels) and channels != 1:
            raise ConfigError(f"The classifier reads images of {channels} channels, not {images.shape[1]}.")
        grey = images.mean(1, keepdim=True) if channels == 1 else images
        logits: Tensor = classifier(grey.expand(-1, channels, -1, -1))
        if attribute is None:
            return logits
        present = logits[:, attribute.of_logits]
        return torch.stack([torch.zeros_like(present), present], 1)

    return score


def images_and_labels(seen: Seen, tools: Tools) -> Rows:
    """Every output as its file would hold it, and its input's class."""
    labels = labels_of(seen, tools).repeat_interleave(seen.outputs.shape[1])
    return {"images": to_levels(seen.outputs.flatten(0, 1)), "labels": labels}


def real_images_and_labels(reals: Reals, tools: Tools) -> Rows:
    """Every real image and its class."""
    return {"images": to_levels(reals.images), "labels": _classes(reals.labels, tools, "real images'")}


def images(seen: Seen, tools: Tools) -> Rows:
    """Every output as its file would hold it."""
    return {"images": to_levels(seen.outputs.flatten(0, 1))}


def real_images(reals: Reals, tools: Tools) -> Rows:
    """Every real image."""
    return {"images": to_levels(reals.images)}


def variances(seen: Seen, tools: Tools) -> Rows:
    """Sums of the outputs, pixel by pixel, in groups of inputs by their places: (GROUPS, ...)."""
    group = seen.places % GROUPS
    states = [Variances.of(seen.outputs[group == number].flatten(0, 1)).state() for number in range(GROUPS)]
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def identity(seen: Seen, tools: Tools) -> Rows:
    """How far the outputs' faces are from the input's."""
    network = tools.network.features
    return {"value": id_distance(_in_parts(network, seen.inputs), _of_each(network, seen))}


def edges(seen: Seen, tools: Tools) -> Rows:
    """How well outputs keep the input's outlines."""
    return {"value": edge_iou(seen.inputs, seen.outputs)}


def pixel_accuracy(seen: Seen, tools: Tools) -> Rows:
    """The share of pixels that are nearly as in the true target."""
    return {"value": pixels.pixel_accuracy(seen.outputs, targets_of(seen))}


def best_l1(seen: Seen, tools: Tools) -> Rows:
    """The nearest output's distance from the true target."""
    return {"value": pixels.best_of_l1(seen.outputs, targets_of(seen))}


def confusion(seen: Seen, tools: Tools) -> Rows:
    """Counts of (true, predicted) classes, (N, classes^2): a predicted class is the highest channel of an output.

    A true one is the highest channel of a map, or the level of a map of one channel, levels beyond the classes being
    unlabelled. Outputs that are such maps are read alike.
    """
    maps = maps_of(seen)
    truth, classes = maps.levels, maps.classes or seen.outputs.shape[2]
    if classes < 2 or seen.outputs.shape[1] != 1 or truth.shape[1] not in (1, classes):
        raise ConfigError(
            f"Segmentation needs one output an input, with a channel for each of 2 classes or more, and targets of as "
            f"many channels or one, not {seen.outputs.shape[1]} outputs of {classes} and targets of {truth.shape[1]}."
        )
    labels = truth.argmax(1) if truth.shape[1] > 1 else truth[:, 0].clamp_max(classes)
    outputs = seen.outputs[:, 0]
    predicted = to_levels(outputs)[:, 0].long().clamp_max(classes - 1) if maps.classes else outputs.argmax(1)
    counts = segmentation.confusion(predicted, labels, classes=classes, ignore=classes)
    return {"value": counts.flatten(1)}


def depths(seen: Seen, tools: Tools) -> Rows:
    """Sums over pixels of depth errors, depths being shares of the greatest that can be stored: (N, 6)."""
    truth = maps_of(seen)
    if seen.outputs.shape[1] != 1:
        raise ConfigError("Depth is measured on one output an input: use 1 sample.")
    return {"value": depth.depth_sums((seen.outputs[:, 0].double() + 1) / 2, truth.levels.double() / truth.greatest)}


def labels_of(seen: Seen, tools: Tools) -> Tensor:
    """The classes that outputs should be of, (N,) int64; of an attribute 0 or 1.

    Raises:
        ConfigError: the data has none, or attributes that are neither.
    """
    return _classes(seen.labels, tools, "inputs'")


def _classes(labels: Tensor | None, tools: Tools, whose: str) -> Tensor:
    if labels is None or (labels.dim() == 2 and (tools.attribute is None or tools.attribute.of_labels is None)):
        raise ConfigError(f"This protocol needs the {whose} classes, and the dataset has none.")
    if labels.dim() == 1:
        return labels
    assert tools.attribute is not None, "refused above"
    values = labels[:, tools.attribute.of_labels]
    if not ((values == 0) | (values == 1)).all():
        raise ConfigError("An attribute is neither 0 nor 1: protocols read whether it is there.")
    return values.long()


def targets_of(seen: Seen) -> Tensor:
    """The inputs' true targets.

    Raises:
        ConfigError: the data isn't paired.
    """
    if seen.targets is None:
        raise ConfigError("This protocol needs each input's true target, and the dataset isn't paired.")
    return seen.targets


def maps_of(seen: Seen) -> Maps:
    """The inputs' true targets as label maps or depths.

    Raises:
        ConfigError: the data isn't paired.
    """
    if seen.maps is None:
        raise ConfigError("This protocol needs each input's true target, and the dataset isn't paired.")
    return seen.maps
