"""An evaluation, whole: model, data and protocols, and the chunks that it is cut into.

Chunks are a function of data and protocols alone: however many workers there are, each image meets the same neighbours.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from i2idist import storage
from i2idist.data.generated import resolve
from i2idist.data.manifest import FILE_NAME, load_manifest
from i2idist.errors import ConfigError, DataError
from i2idist.evaluate.classifiers import Pinned, of_domain, pin
from i2idist.evaluate.protocol import Choice, Sampling
from i2idist.evaluate.protocols import PROTOCOLS
from i2idist.method import Domain
from i2idist.metrics import networks
from i2idist.randomness import key_of, permutation
from i2idist.translate.inputs import Inputs, Item, find_inputs
from i2idist.translate.job import Job, Model, Options, absolute, pin_model

CHUNK = 64
"""Outputs of one chunk, or real images."""

_USUAL_SPLIT = "test"


@dataclass(frozen=True)
class Chunk:
    """A few inputs, or real images, that one worker sees at once.

    Attributes:
        number: its place among the chunks.
        name: for messages.
        item: the shard, or run of files, that holds them.
        rows: their places in the item.
        tasks: the protocols that look at them, by number.
        sampling: outputs and seed.
        real: whether they are real images of the target domain, which aren't translated.
    """

    number: int
    name: str
    item: Item
    rows: tuple[int, ...]
    tasks: tuple[int, ...]
    sampling: Sampling
    real: bool

    @property
    def images(self) -> int:
        """Outputs that are made of it, or real images."""
        return len(self.rows) * self.sampling.samples


@dataclass(frozen=True)
class Evaluation:
    """What workers need.

    Attributes:
        job: model, inputs and options, as a translation has them.
        reals: images of the target domain; None where no protocol looks at them.
        targets: the inputs' true targets; None where no protocol looks at them.
        choices: the protocols.
        classifier: of the target domain; None where no protocol needs one.
    """

    job: Job
    reals: Inputs | None
    targets: Inputs | None
    choices: tuple[Choice, ...]
    classifier: Pinned | None

    def size_of(self, domain: Domain) -> tuple[int, int]:
        """(height, width) at which a domain's images are looked at."""
        size = self.job.options.size
        assert size != "stored", "refused when the evaluation is made"
        return (domain.height, domain.width) if isinstance(size, str) else size

    def looks_at_the_same_reals(self, other: Evaluation) -> bool:
        """Whether protocols keep the same of the same real images, whatever the models."""
        if self.reals is None or other.reals is None:
            return False
        ours, theirs = ((e.reals.digest, e.reals.domain, e.size_of(e.job.target)) for e in (self, other) if e.reals)
        return ours == theirs and self.choices == other.choices and self.job.options.device == other.job.options.device

    def for_workers(self) -> Evaluation:
        """A copy that is small however much data there is."""
        without = dataclasses.replace(self.job, inputs=self.job.inputs.without_items())
        return dataclasses.replace(
            self,
            job=without,
            reals=self.reals and self.reals.without_items(),
            targets=self.targets and self.targets.without_items(),
        )

    def chunks(self) -> list[Chunk]:
        """The work: protocols that look at the same translations, or the same reals, share them."""
        inputs: dict[Sampling, list[int]] = {}
        reals: dict[Sampling, list[int]] = {}
        for number, choice in enumerate(self.choices):
            inputs.setdefault(choice.sampling, []).append(number)
            if choice.protocol.keep_real:
                wanted = Sampling(choice.protocol.reals, seed=choice.sampling.seed if choice.protocol.reals else 0)
                reals.setdefault(wanted, []).append(number)
        chunks = [part for plan, tasks in inputs.items() for part in _cut(self.job.inputs, tuple(tasks), plan, False)]
        if self.reals:
            chunks += [part for plan, tasks in reals.items() for part in _cut(self.reals, tuple(tasks), plan, True)]
        return [dataclasses.replace(chunk, number=number) for number, chunk in enumerate(chunks)]


def _cut(inputs: Inputs, tasks: tuple[int, ...], sampling: Sampling, real: bool) -> Iterator[Chunk]:
    chosen = chosen_places(_total(inputs), sampling)
    step, first = max(1, CHUNK // sampling.samples), 0
    for item in inputs.items:
        mine = chosen[bisect_left(chosen, first) : bisect_left(chosen, first + item.count)]
        rows = tuple(place - first for place in mine)
        first += item.count
        for start in range(0, len(rows), step):
            yield Chunk(0, item.name, item, rows[start : start + step], tasks, sampling, real)


def chosen_places(total: int, sampling: Sampling) -> list[int]:
    """The places of the inputs that a protocol looks at, ascending; fewer inputs of one seed are among more."""
    if sampling.inputs is None or sampling.inputs >= total:
        return list(range(total))
    order = permutation(key_of(sampling.seed, "evaluation inputs"), total)
    return sorted(order[: sampling.inputs].tolist())


def make_evaluation(
    model_uri: str,
    dataset_url: str,
    choices: Sequence[Choice],
    options: Options,
    *,
    split: str | None = None,
    domain: str | None = None,
    reference: str | None = None,
    classifier: str | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Evaluation:
    """Resolve the model's alias to a version, find data, networks and classifier: errors come before the work.

    Args:
        model_uri: a model's folder, or `models:/NAME@ALIAS`.
        dataset_url: a packed dataset, `generated:...`, or a folder of images.
        choices: the protocols.
        options: target, size, batch size, threads and device; the protocols say how many samples.
        split: of the inputs; None: `test`, where the dataset has it, else all.
        domain: of the inputs; None: the one named as the model's source.
        reference: a dataset or folder of real images of the target domain; None: the target domain of the dataset, in
            all of its splits.
        classifier: the folder of a saved classifier of the target domain; None: one of our cache.
        say: told what a person waits for.

    Raises:
        ConfigError: model, data and protocols don't fit each other.
        DataError: there is nothing to evaluate on.
        SourceError: a model, weights or a classifier that isn't there.
        StorageError: storage can't be reached.
    """
    if not choices:
        raise ConfigError(f"Name a protocol to evaluate by. Known: {', '.join(PROTOCOLS)}.")
    if options.size == "stored":
        raise ConfigError("Protocols compare images of one size: use size=trained, or a height and width.")
    found, translator = pin_model(model_uri)
    job = _job(found, _resolved(dataset_url), options.resolved(translator), split, domain)
    return evaluation_of(job, choices, reference=reference, classifier=classifier, say=say)


def evaluation_of(
    job: Job,
    choices: Sequence[Choice],
    *,
    reference: str | None = None,
    classifier: str | None = None,
    cache: str | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Evaluation:
    """Find what protocols need beside model and inputs.

    Args:
        job: model, inputs and options.
        choices: the protocols.
        reference: see `make_evaluation`.
        classifier: likewise.
        cache: the folder of classifiers; None: this machine's.
        say: told what a person waits for.

    Raises:
        I2IError: as `make_evaluation`.
    """
    for choice in choices:
        if choice.network:
            networks.network(choice.network)
    needs = {need for choice in choices for need in choice.protocol.needs}
    reals = _reals(job, reference) if "reals" in needs else None
    for choice in choices:
        _check_counts(choice, job.inputs, reals)
    return Evaluation(
        job,
        reals,
        _targets(job) if "pairs" in needs else None,
        tuple(choices),
        _classifier(job, classifier, cache, say) if any(choice.protocol.classifier for choice in choices) else None,
    )


def _check_counts(choice: Choice, inputs: Inputs, reals: Inputs | None) -> None:
    protocol, sampling = choice.protocol, choice.sampling
    found = len(chosen_places(_total(inputs), sampling)) * sampling.samples
    real = _total(reals) if reals and protocol.keep_real else protocol.least
    for what, count in (("outputs", found), ("real images", real)):
        if count < protocol.least:
            raise ConfigError(
                f"{protocol.name} takes {protocol.least} {what} at least, and there are {count}: use another protocol, "
                "more inputs or more samples."
            )


def _total(inputs: Inputs) -> int:
    return sum(item.count for item in inputs.items)


def _resolved(url: str) -> str:
    """The dataset's folder, under a name that workers know it by."""
    return absolute(resolve(url))


def _job(model: Model, url: str, options: Options, split: str | None, domain: str | None) -> Job:
    source, _ = model.card.domains.route(options.target)
    packed = storage.exists(storage.join(url, FILE_NAME))
    if split is None and packed and _USUAL_SPLIT in load_manifest(url).splits:
        split = _USUAL_SPLIT
    inputs = find_inputs(url, source, split=split, domain=domain)
    if not inputs.items:
        raise DataError(f"There are no images to translate at {url}.")
    return Job(model, inputs, options, "", 0)


def _reals(job: Job, reference: str | None) -> Inputs:
    url = _resolved(reference) if reference else job.inputs.url
    if reference is None and job.inputs.domain is None:
        raise ConfigError(f"{url} is a folder of inputs alone: name real images of the target domain by --reference.")
    return find_inputs(url, job.target)


def _targets(job: Job) -> Inputs:
    if job.inputs.role != "paired":
        raise ConfigError(f"{job.inputs.url} is no paired dataset, so the true target of an input isn't known.")
    return find_inputs(job.inputs.url, job.target, domain=_partner(job))


def _partner(job: Job) -> str:
    names = [domain.name for domain in load_manifest(job.inputs.url).domains]
    return next(name for name in names if name != job.inputs.domain)


def _classifier(job: Job, url: str | None, cache: str | None, say: Callable[[str], None]) -> Pinned:
    if url:
        return pin(url if url.startswith("models:/") else absolute(url))
    if job.inputs.domain is None:
        raise ConfigError(f"{job.inputs.url} is a folder of images without classes: name a classifier by --classifier.")
    return of_domain(job.inputs.url, job.target, say, cache)
