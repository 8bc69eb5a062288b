"""The protocols.

A protocol's name stands for one way to get a number. What a person may choose beside it (the network, other counts, the
seed) is part of the number's name, see `record`; so numbers that can't be compared never share one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from i2idist.errors import ConfigError, nearest
from i2idist.evaluate import folds, measures, set_folds
from i2idist.evaluate.folds import Fold
from i2idist.evaluate.protocol import Better, Choice, Need, Protocol, Readers, Sampling
from i2idist.evaluate.seen import Rows, Seen, Tools
from i2idist.metrics import networks


def _diversity(name: str, source: str, pairs: str, sampling: Sampling, keep: Callable[..., Rows]) -> Protocol:
    return Protocol(
        name=name,
        measures=f"perceptual distance between outputs for one input ({source})",
        better="higher",
        keep=keep,
        fold=folds.MeanOverInputs,
        gives="distance",
        network=networks.DEFAULT,
        sampling=sampling,
        pairs=pairs,
        needs=("codes",),
    )


def _features(
    name: str,
    what: str,
    fold: Callable[[], Fold],
    *,
    only: str | None = None,
    inputs: int | None = None,
    reals: int | None = None,
    least: int = 2,
) -> Protocol:
    return Protocol(
        name=name,
        measures=what,
        better="lower",
        keep=measures.features,
        keep_real=measures.real_features,
        fold=fold,
        gives="features",
        network=only or networks.DEFAULT,
        only=only is not None,
        sampling=Sampling(inputs=inputs),
        reals=reals,
        least=least,
        needs=("reals",),
        of_outputs=True,
    )


def _by_classifier(
    name: str,
    what: str,
    better: Better,
    keep: Callable[[Seen, Tools], Rows],
    fold: Callable[[], Fold] = folds.MeanOverInputs,
    sampling: Sampling = Sampling(),  # noqa: B008  # frozen
    needs: tuple[Need, ...] = ("labels",),
    whose: Readers = "target",
    keeps: bool = False,
    of_outputs: bool = False,
) -> Protocol:
    return Protocol(
        name=name,
        measures=what,
        better=better,
        keep=keep,
        fold=fold,
        classifier=whose,
        keeps=keeps,
        sampling=sampling,
        needs=needs,
        of_outputs=of_outputs,
    )


def _of_images(
    name: str,
    what: str,
    better: Better,
    keep: Callable[[Seen, Tools], Rows],
    fold: Callable[[], Fold] = folds.MeanOverInputs,
    samples: int = 1,
    needs: tuple[Need, ...] = ("pairs",),
    of_outputs: bool = False,
) -> Protocol:
    return Protocol(
        name=name,
        measures=what,
        better=better,
        keep=keep,
        fold=fold,
        sampling=Sampling(samples=samples),
        needs=needs,
        of_outputs=of_outputs,
    )


def _of_maps(
    name: str, what: str, better: Better, keep: Callable[[Seen, Tools], Rows], fold: Callable[[], Fold]
) -> Protocol:
    return _of_images(name, what, better, keep, fold, needs=("maps",))


_DEPTHS = "M&MNet, Eq. 4.15"
_INCEPTION = "inception-fid"
_ALL = (
    _diversity("diversity-segan", "SEGAN", "all pairs", Sampling(inputs=100, samples=20), measures.all_pairs),
    _diversity("diversity-udit", "UDIT", "19 random pairs", Sampling(inputs=100, samples=20), measures.pairs_19),
    _diversity("diversity-sdit", "SDIT", "all pairs", Sampling(inputs=2000, samples=10), measures.all_pairs),
    _features("frechet", "Fréchet distance of features to every real image of the target domain", set_folds.Frechet),
    _features(
        "fid", "Fréchet Inception distance to every real image (Heusel et al. 2017)", set_folds.Frechet, only=_INCEPTION
    ),
    _features(
        "kid",
        "kernel Inception distance, 100 subsets of 1,000 (Binkowski et al. 2018)",
        partial(set_folds.Kernel, 1000),
        least=1000,
        only=_INCEPTION,
        inputs=10_000,
        reals=10_000,
    ),
    _features(
        "polynomial-mmd",
        "KID's discrepancy of any features, 100 subsets of 100",
        partial(set_folds.Kernel, 100),
        least=100,
        inputs=10_000,
        reals=10_000,
    ),
    _features(
        "kmmd",
        "discrepancy of features with a Gaussian kernel (MineGAN)",
        set_folds.Gaussian,
        inputs=2000,
        reals=2000,
    ),
    Protocol(
        name="is",
        measures="inception score in ten splits (Salimans et al. 2016)",
        better="higher",
        keep=measures.network_probabilities,
        fold=set_folds.InceptionScore,
        gives="probabilities",
        network=_INCEPTION,
        only=True,
        sampling=Sampling(inputs=10_000),
        least=20,
        of_outputs=True,
        revision=2,
    ),
    _by_classifier(
        "cis",
        "conditional inception score by a classifier of the target domain, in nats (MUNIT); its IS beside it",
        "higher",
        measures.class_probabilities,
        folds.ConditionalScore,
        Sampling(inputs=100, samples=100),
        needs=("codes",),
    ),
    _by_classifier(
        "accuracy",
        "share of outputs in which a classifier of the target domain sees the input's, or sample's, class (TI-GAN)",
        "higher",
        measures.class_is_kept,
        of_outputs=True,
    ),
    _by_classifier(
        "source-only-accuracy",
        "share of inputs that a classifier of the target domain reads right untranslated: what adapting it must beat",
        "higher",
        measures.class_is_read,
    ),
    _of_images(
        "adapted-accuracy",
        "share of inputs that the model's own classifier reads right (UNIT, Table 2: with --target a)",
        "higher",
        measures.class_is_read_by_model,
        needs=("labels",),
    ),
    _by_classifier(
        "classifier-error",
        "mean over classes of the share of outputs that a classifier takes for another class (MineGAN)",
        "lower",
        measures.class_errors,
        folds.class_errors,
        of_outputs=True,
    ),
    _by_classifier(
        "misclassification",
        "share of outputs in which a classifier of a property that should stay sees another class (UDIT)",
        "lower",
        measures.class_is_lost,
        sampling=Sampling(samples=10),
        whose="both",
        keeps=True,
    ),
    _by_classifier(
        "confidence-drop",
        "how much surer a classifier is of the true class of inputs than of outputs (UDIT)",
        "lower",
        measures.confidence_drop,
        sampling=Sampling(samples=10),
        whose="both",
        keeps=True,
    ),
    Protocol(
        name="reverse-classification",
        measures="accuracy on real images of a classifier that is trained on translations (SDIT)",
        better="higher",
        keep=measures.images_and_labels,
        keep_real=measures.real_images_and_labels,
        fold=set_folds.ReverseClassification,
        sampling=Sampling(inputs=2000),
        reals=2000,
        needs=("labels", "reals"),
        of_outputs=True,
    ),
    Protocol(
        name="wasserstein",
        measures="distance that an independent Wasserstein critic sees on held-out images (TransferGAN, Eq. 2.6; "
        "its tables print minus it)",
        better="lower",
        keep=measures.images,
        keep_real=measures.real_images,
        fold=set_folds.IndependentCritic,
        sampling=Sampling(inputs=2000),
        reals=2000,
        needs=("reals",),
        of_outputs=True,
    ),
    Protocol(
        name="id-distance",
        measures="distance of the faces of input and outputs (UDIT, SDIT)",
        better="lower",
        keep=measures.identity,
        fold=folds.MeanOverInputs,
        gives="features",
        network="face",
        only=True,
        sampling=Sampling(inputs=2000, samples=10),
    ),
    _of_images(
        "mean-variance",
        "mean over pixels of their variance over outputs (MineGAN)",
        "higher",
        measures.variances,
        set_folds.MeanVariance,
        needs=(),
        of_outputs=True,
    ),
    _of_images("edge-iou", "overlap of the outlines of input and output", "higher", measures.edges, needs=()),
    _of_images(
        "pixel-accuracy", "share of pixels within 16 levels of the target (UNIT)", "higher", measures.pixel_accuracy
    ),
    _of_images(
        "best-l1",
        "L1 to the target of the output that is nearest to it (SEGAN: of 20)",
        "lower",
        measures.best_l1,
        samples=20,
    ),
    _of_maps("miou", "mean IoU of classes (M&MNet)", "higher", measures.confusion, folds.miou),
    _of_maps(
        "global-accuracy", "share of pixels of the right class (M&MNet)", "higher", measures.confusion, folds.pixels
    ),
    _of_maps("depth", f"share of depths within a factor of 1.25 ({_DEPTHS})", "higher", measures.depths, folds.depths),
    _of_maps(
        "depth-rmse",
        f"root mean squared error of depths, 1 being the greatest that can be stored ({_DEPTHS})",
        "lower",
        measures.depths,
        partial(folds.depths, "rmse_linear"),
    ),
    _of_maps(
        "depth-rmse-log",
        f"root mean squared error of natural logarithms of depths ({_DEPTHS})",
        "lower",
        measures.depths,
        partial(folds.depths, "rmse_log"),
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}
"""Every protocol by name."""


def choose(
    text: str,
    *,
    network: str | None = None,
    inputs: int | None = None,
    samples: int | None = None,
    seed: int | None = None,
) -> Choice:
    """The protocol `NAME`, or `NAME:NETWORK`, or `NAME:ATTRIBUTE` of one that reads by a classifier.

    Args:
        text: which.
        network: for protocols that look through one and don't name it; None: the protocol's own.
        inputs: other counts than the protocol's; None: its own.
        samples: likewise.
        seed: likewise.

    Raises:
        ConfigError: no such protocol or network, or a network that doesn't give what the protocol needs.
    """
    name, _, named = text.partition(":")
    if name not in PROTOCOLS:
        raise ConfigError(f"There is no protocol '{name}'.{nearest(name, PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    attribute = named if protocol.classifier and named not in networks.NETWORKS else ""
    chosen = _network(protocol, "" if attribute else named, network)
    given = {"inputs": inputs, "samples": samples, "seed": seed}
    changes = {key: value for key, value in given.items() if value is not None}
    return Choice(protocol, chosen, dataclasses.replace(protocol.sampling, **changes), attribute or None)


def _network(protocol: Protocol, named: str, usual: str | None) -> str | None:
    if protocol.gives is None:
        if named:
            raise ConfigError(f"The protocol {protocol.name} looks through no network: leave ':{named}' out.")
        return None
    chosen = named or (None if protocol.only else usual) or protocol.network
    assert chosen is not None, "a protocol that looks through a network has a default"
    networks.card(chosen)
    if chosen not in protocol.networks():
        able = ", ".join(protocol.networks())
        raise ConfigError(f"The protocol {protocol.name} can't look through {chosen}, but through: {able}.")
    return chosen
