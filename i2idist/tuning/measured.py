"""Whether a trial's validation will give what the search asks for: looked at before anything is trained."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch

from i2idist import storage
from i2idist.data.reader import Reader
from i2idist.errors import ConfigError
from i2idist.evaluate.training import choices_of, evaluation_in_training
from i2idist.experiment import Experiment
from i2idist.launch.sources import pin_sources
from i2idist.launch.worker import CLASSIFIERS, VALIDATION_SPLIT, build, open_readers
from i2idist.method import Method
from i2idist.train.comm import Comm
from i2idist.train.loop import validate
from i2idist.train.trainer import Trainer
from i2idist.tuning.search import Search
from i2idist.tuning.space import Params, examples


def check_measured(search: Search, root: str, say: Callable[[str], None]) -> None:
    """Open the data, build the method, and make ready what protocols need; a classifier may be trained.

    Args:
        search: the search.
        root: where its runs will be.
        say: told what a person waits for.

    Raises:
        ConfigError: an objective or constraint isn't among what a validation gives, or data and protocols don't fit.
        I2IError: what data or method raise.
    """
    experiment, *others = [pin_sources(search.experiment(point), root) for point in _points(search)]
    metrics = (*search.objectives, *search.constraints)
    choices_of(experiment.train)
    with ExitStack() as stack, torch.random.fork_rng(devices=[]):
        train, validation = open_readers(experiment, 0, 1, stack)
        method = build(experiment, train)
        for other in others:
            build(other, train)
        if any(metric.protocol for metric in metrics):
            say("Looking at the data, and making ready what the objectives need ...")
            where, cache = train.url, storage.join(root, CLASSIFIERS)
            name = experiment.method.name
            evaluation_in_training(experiment.train, name, method, train.domains, where, torch.device("cpu"), cache)
        terms = [metric for metric in metrics if not metric.protocol]
        if terms:
            values = _terms(experiment, method, validation)
            for metric in terms:
                metric.of(values, "an objective or constraint")


def _points(search: Search) -> list[Params]:
    """Points that begin from every source which is searched; the recipe's own where none is."""
    return [point for key, point in examples(search.space) if key.startswith("sources.")] or [{}]


def _terms(experiment: Experiment, method: Method, validation: Reader | None) -> Mapping[str, float]:
    """The method's own terms, of one batch."""
    assert validation is not None, "trials are always validated"
    trainer = Trainer(method, experiment.train, seed=experiment.seed, comm=Comm.alone(), device="cpu")
    values = validate(trainer, itertools.islice(validation.epoch(), 1), Comm.alone(), experiment.seed)
    if not values:
        raise ConfigError(f"{experiment.method.name} has no terms on the split '{VALIDATION_SPLIT}': use protocols.")
    return values
