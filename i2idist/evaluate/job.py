"""An evaluation, whole: model, data and protocols, and the chunks that it is cut into.

Chunks are a function of data and protocols alone: however many workers there are, each image meets the same neighbours.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from i2idist.data.generated import resolve
from i2idist.data.manifest import is_packed, load_manifest
from i2idist.errors import ConfigError, DataError
from i2idist.evaluate import needs
from i2idist.evaluate.classifiers import Pinned
from i2idist.evaluate.places import chosen_places, places_by_label, total
from i2idist.evaluate.protocol import Choice, Readers, Sampling
from i2idist.evaluate.protocols import PROTOCOLS
from i2idist.method import Domain, Method
from i2idist.metrics import networks
from i2idist.translate.inputs import Inputs, Item, find_inputs, samples
from i2idist.translate.job import Job, Model, Options, absolute, pin_model

CHUNK = 64
"""Outputs of one chunk, or real images."""

SAMPLES = 5000
"""Images that a generator makes where a protocol looks at all outputs."""

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
        job: model, inputs and options, as a translation, or a sampling, has them.
        reals: images of the target domain; None where no protocol looks at them. With a generator, they are the data.
        targets: the inputs' true targets; None where no protocol looks at them.
        choices: the protocols.
        classifiers: by whose images they read; those that protocols need.
        label: the label that is translated to, or that samples should be of; None where translation is to a domain, or
            samples are of all labels.
        among: the inputs' places that protocols choose from, None for all: where translation is to a label, those
            without it, or of a path those with the label that it leads from.
        real_among: likewise of the real images: those with the label.
        of_images: whether the inputs are real images that stand where a generator's samples do.
    """

    job: Job
    reals: Inputs | None
    targets: Inputs | None
    choices: tuple[Choice, ...]
    classifiers: Mapping[Readers, Pinned] = field(default_factory=dict)
    label: str | None = None
    among: tuple[int, ...] | None = None
    real_among: tuple[int, ...] | None = None
    of_images: bool = False

    def size_of(self, domain: Domain) -> tuple[int, int]:
        """(height, width) at which a domain's images are looked at."""
        size = self.job.options.size
        assert size != "stored", "refused when the evaluation is made"
        return (domain.height, domain.width) if isinstance(size, str) else size

    def looks_at_the_same_reals(self, other: Evaluation) -> bool:
        """Whether protocols keep the same of the same real images, whatever the models."""
        if self.reals is None or other.reals is None:
            return False
        ours, theirs = (
            (e.reals.digest, e.reals.domain, e.real_among, e.size_of(e.job.target), e.job.target.channels)
            for e in (self, other)
            if e.reals
        )
        return ours == theirs and self.choices == other.choices and self.job.options.device == other.job.options.device

    def for_workers(self) -> Evaluation:
        """A copy that is small however much data there is."""
        without = dataclasses.replace(self.job, inputs=self.job.inputs.without_items())
        return dataclasses.replace(
            self,
            job=without,
            reals=self.reals and self.reals.without_items(),
            targets=self.targets and self.targets.without_items(),
            among=None,
            real_among=None,
        )

    def chunks(self) -> list[Chunk]:
        """The work: protocols that look at the same translations, or the same reals, share them."""
        inputs: dict[tuple[Sampling, bool], list[int]] = {}
        reals: dict[Sampling, list[int]] = {}
        for number, choice in enumerate(self.choices):
            # Inputs that lack a target count for protocols that need none.
            alone = self.job.inputs.role == "multimodal" and choice.protocol.looks_at_targets
            inputs.setdefault((choice.sampling, alone), []).append(number)
            if choice.protocol.keep_real:
                wanted = Sampling(choice.protocol.reals, seed=choice.sampling.seed if choice.protocol.reals else 0)
                reals.setdefault(wanted, []).append(number)
        chunks = [
            part
            for (plan, _), tasks in inputs.items()
            for part in _cut(self.job.inputs, self.among, tuple(tasks), plan, False)
        ]
        if self.reals:
            chunks += [
                part
                for plan, tasks in reals.items()
                for part in _cut(self.reals, self.real_among, tuple(tasks), plan, True)
            ]
        return [dataclasses.replace(chunk, number=number) for number, chunk in enumerate(chunks)]


def _cut(
    inputs: Inputs, among: tuple[int, ...] | None, tasks: tuple[int, ...], sampling: Sampling, real: bool
) -> Iterator[Chunk]:
    count = total(inputs, among)
    # A generator's samples are draws already; how many others look at doesn't matter.
    chosen = list(range(sampling.inputs or count)) if inputs.are_codes else chosen_places(count, sampling)
    chosen = chosen if among is None else [among[number] for number in chosen]
    step, first = max(1, CHUNK // sampling.samples), 0
    for item in inputs.items:
        mine = chosen[bisect_left(chosen, first) : bisect_left(chosen, first + item.count)]
        rows = tuple(place - first for place in mine)
        first += item.count
        for start in range(0, len(rows), step):
            yield Chunk(0, item.name, item, rows[start : start + step], tasks, sampling, real)


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
        dataset_url: a packed dataset, `generated:...`, or a folder of images. For a generator, the real images.
        choices: the protocols.
        options: target, size, batch size, threads and device; the protocols say how many samples.
        split: of the inputs; None: `test`, where the dataset has it, else all. Of a generator's real images; None: all.
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
    check_asked(choices, options)
    found, translator = pin_model(model_uri)
    url = absolute(dataset_url)
    if translator.method.generates:
        if reference:
            raise ConfigError("A generator's real images are the dataset: leave --reference out.")
        data = find_inputs(url, found.card.domains.a, split=split, domain=domain)
        return evaluation_of_samples(found, translator.method, choices, options, data, classifier=classifier, say=say)
    job = _job(found, url, options.resolved(translator), split, domain)
    return evaluation_of(job, choices, reference=reference, classifier=classifier, say=say)


def check_asked(choices: Sequence[Choice], options: Options) -> None:
    """Refuse an evaluation by nothing, of images of any size, or in one style.

    Raises:
        ConfigError: says what to name.
    """
    if not choices:
        raise ConfigError(f"Name a protocol to evaluate by. Known: {', '.join(PROTOCOLS)}.")
    if options.size == "stored":
        raise ConfigError("Protocols compare images of one size: use size=trained, or a height and width.")
    if options.style_from:
        raise ConfigError("Protocols measure outputs of codes that are drawn: leave style_from out.")


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
    wanted = {need for choice in choices for need in choice.protocol.needs}
    reals = needs.reals(job, reference) if "reals" in wanted else None
    label = needs.label(job)
    source = needs.from_label(job)
    among = places_by_label(job.inputs, source or label or "", have=source is not None) if label else None
    real_among = places_by_label(reals, label, have=True) if label and reals and reference is None else None
    for choice in choices:
        needs.check_counts(choice, total(job.inputs, among), total(reals, real_among) if reals else None)
    return Evaluation(
        job,
        reals,
        needs.targets(job, maps="pairs" not in wanted) if wanted & {"pairs", "maps"} else None,
        tuple(choices),
        needs.classifiers(job, choices, label, named=classifier, cache=cache, say=say),
        label,
        among,
        real_among,
    )


def evaluation_of_samples(
    model: Model,
    method: Method,
    choices: Sequence[Choice],
    options: Options,
    data: Inputs,
    *,
    classifier: str | None = None,
    cache: str | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Evaluation:
    """An evaluation of a generator: images of codes alone, held against real ones.

    Args:
        model: the model.
        method: its method.
        choices: the protocols, which look at so many samples, or at SAMPLES.
        options: see `make_evaluation`; the target is the label that samples should be of, and the real images are: of a
            generator without labels, too.
        data: the real images.
        classifier: see `make_evaluation`.
        cache: see `evaluation_of`.
        say: likewise.

    Raises:
        ConfigError: a protocol that looks at inputs, or model, data and protocols that don't fit each other.
        I2IError: as `make_evaluation`.
    """
    for choice in choices:
        needs.check_of_samples(choice, method, data, options.target)
        if choice.network:
            networks.network(choice.network)
    choices = [dataclasses.replace(choice, sampling=_sized(choice.sampling)) for choice in choices]
    most = max(choice.sampling.inputs or 0 for choice in choices)
    label = options.target
    device = options.resolved_device()
    own = dataclasses.replace(options, target=label if method.targets else None, device=device)
    job = Job(model, samples(most, data.labels), own, "", 0)
    real_among = places_by_label(data, label, have=True) if label else None
    for choice in choices:
        needs.check_counts(choice, choice.sampling.inputs or 0, total(data, real_among))
    about = dataclasses.replace(job, inputs=data)
    readers = needs.classifiers(about, choices, None, named=classifier, cache=cache, say=say)
    return Evaluation(job, data, None, tuple(choices), readers, label, None, real_among)


def _sized(sampling: Sampling) -> Sampling:
    return dataclasses.replace(sampling, inputs=sampling.inputs or SAMPLES)


def _job(model: Model, url: str, options: Options, split: str | None, domain: str | None) -> Job:
    source, _ = model.card.domains.route(options.target)
    folder = resolve(url)
    if split is None and is_packed(folder) and _USUAL_SPLIT in load_manifest(folder).splits:
        split = _USUAL_SPLIT
    inputs = find_inputs(url, source, split=split, domain=domain)
    if not inputs.items:
        raise DataError(f"There are no images to translate at {url}.")
    return Job(model, inputs, options, "", 0)
