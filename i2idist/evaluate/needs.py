"""What protocols need beside a model and its inputs: real images, true targets, classifiers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from i2idist.data.manifest import Manifest, load_manifest
from i2idist.errors import ConfigError, nearest
from i2idist.evaluate.classifiers import ClassifierCard, Pinned, of_domains, pin
from i2idist.evaluate.places import chosen_places
from i2idist.evaluate.protocol import Choice, Readers
from i2idist.method import ARROW, Domain, Method
from i2idist.translate.inputs import Inputs, find_inputs
from i2idist.translate.job import Job, absolute


def reals(job: Job, reference: str | None) -> Inputs:
    """Real images of the target domain, of all splits.

    Raises:
        ConfigError: the inputs are a folder, and no `reference` is named; or images that don't fit the model.
        DataError, StorageError: data that can't be read.
    """
    if reference:
        return find_inputs(absolute(reference), job.target)
    if job.inputs.domain is None:
        raise ConfigError(
            f"{job.inputs.url} is a folder of inputs alone: name real images of the target domain by --reference."
        )
    return find_inputs(job.inputs.url, job.target, domain=_target_name(job))


def label(job: Job) -> str | None:
    """The label that translation is to; None where it is to a domain, or the inputs are a plain folder.

    Raises:
        ConfigError: the inputs don't know the label.
    """
    target, domains = (job.options.target or "").rpartition(ARROW)[2], job.model.card.domains
    if len(domains.images) > 1 or target not in domains.labels or job.inputs.domain is None:
        return None
    if target not in job.inputs.labels:
        raise ConfigError(f"{job.inputs.url} has no label '{target}'.{nearest(target, job.inputs.labels)}")
    return target


def from_label(job: Job) -> str | None:
    """The label that a path leads from; None where translation is from whatever an image is.

    Raises:
        ConfigError: the inputs don't know the label.
    """
    source, arrow, _ = (job.options.target or "").rpartition(ARROW)
    if not arrow or label(job) is None:
        return None
    if source not in job.inputs.labels:
        raise ConfigError(f"{job.inputs.url} has no label '{source}'.{nearest(source, job.inputs.labels)}")
    return source


def targets(job: Job, *, maps: bool) -> Inputs:
    """The inputs' true targets.

    Args:
        job: model and inputs.
        maps: whether they are looked at as label maps or depths alone, which may have other channels than outputs.

    Raises:
        ConfigError: the data isn't paired, or its images don't fit the model.
    """
    inputs = job.inputs
    if inputs.role not in ("paired", "multimodal"):
        raise ConfigError(f"{inputs.url} is no paired dataset, so the true target of an input isn't known.")
    domain, name = job.target, _partner(inputs) or job.target.name
    if maps:
        domain = dataclasses.replace(domain, channels=load_manifest(inputs.folder).domain(name).channels)
    return find_inputs(inputs.url, domain, domain=name)


def _partner(inputs: Inputs) -> str | None:
    """The other one of a dataset's two domains; None where it has more, or one."""
    names = [domain.name for domain in load_manifest(inputs.folder).domains]
    others = [name for name in names if name != inputs.domain]
    return others[0] if len(others) == 1 else None


def _target_name(job: Job) -> str | None:
    """The dataset's name for the target domain: the model's, if it knows it, else the only one or the other of two."""
    names = [domain.name for domain in load_manifest(job.inputs.folder).domains]
    if job.target.name in names:
        return job.target.name
    return names[0] if len(names) == 1 else _partner(job.inputs)


def classifiers(
    job: Job,
    choices: Sequence[Choice],
    to: str | None,
    *,
    named: str | None,
    cache: str | None,
    say: Callable[[str], None],
) -> dict[Readers, Pinned]:
    """What protocols read translations with, by whose images it reads.

    Args:
        job: model and inputs.
        choices: the protocols.
        to: the label that is translated to, if any.
        named: a classifier for all of them; None: those of the dataset, trained on first use.
        cache: the folder of such; None: this machine's.
        say: told what a person waits for.

    Raises:
        ConfigError: data, labels and classifier don't fit each other.
        SourceError: no such classifier.
    """
    reading = [choice for choice in choices if choice.protocol.classifier]
    for choice in reading:
        _check_labels(choice, job.inputs, to)
    found: dict[Readers, Pinned] = {}
    for choice in reading:
        whose = choice.protocol.classifier
        assert whose is not None, "chosen so"
        found[whose] = found.get(whose) or _classifier(job, whose, named, cache, say)
        _check_classifier(choice, found[whose].card, job.inputs)
    return found


def _classifier(job: Job, whose: Readers, named: str | None, cache: str | None, say: Callable[[str], None]) -> Pinned:
    if named:
        return pin(named if named.startswith("models:/") else absolute(named))
    if job.inputs.domain is None:
        raise ConfigError(f"{job.inputs.url} is a folder of images without classes: name a classifier by --classifier.")
    manifest = load_manifest(job.inputs.folder)
    target = _named(job.target, _target_name(job) or job.target.name, manifest)
    source = _named(job.source, job.inputs.domain, manifest)
    domains = [target, source] if whose == "both" and source.name != target.name else [target]
    return of_domains(job.inputs.folder, domains, say, cache)


def _named(domain: Domain, name: str, manifest: Manifest) -> Domain:
    """A domain as the dataset calls it, at the model's size."""
    return dataclasses.replace(domain, name=name, channels=manifest.domain(name).channels)


def _check_labels(choice: Choice, inputs: Inputs, to: str | None) -> None:
    name, attribute = choice.protocol.name, choice.attribute
    kind = "class" if "labels" in choice.protocol.needs else inputs.label_kind
    if attribute and inputs.label_kind == "attributes" and attribute not in inputs.labels:
        raise ConfigError(f"{inputs.url} has no attribute '{attribute}'.{nearest(attribute, inputs.labels)}")
    if attribute and kind == "class" and inputs.label_kind != "attributes":
        raise ConfigError(f"{name}:{attribute} needs attributes of the inputs, and {inputs.url} has none.")
    if not attribute and inputs.label_kind == "attributes" and kind == "class":
        known = ", ".join(inputs.labels)
        raise ConfigError(f"{inputs.url} has attributes: name one, as in {name}:{inputs.labels[0]}. Known: {known}.")
    if to and choice.protocol.keeps and attribute in (None, to):
        raise ConfigError(f"{name} is about what translation to '{to}' should keep: name another attribute than it.")


def _check_classifier(choice: Choice, card: ClassifierCard, inputs: Inputs) -> None:
    name, attribute = choice.protocol.name, choice.attribute
    if attribute and attribute not in (card.labels if card.kind == "attributes" else ()):
        known = nearest(attribute, card.labels)
        raise ConfigError(f"{name}:{attribute} needs a classifier of that attribute; this one reads others.{known}")
    if not attribute and card.kind == "attributes":
        raise ConfigError(f"The classifier reads attributes: name one, as in {name}:{card.labels[0]}.")
    if not attribute and "labels" in choice.protocol.needs and inputs.labels and card.labels != inputs.labels:
        raise ConfigError(
            f"The classifier tells {', '.join(card.labels)} apart, and {inputs.url} has the classes "
            f"{', '.join(inputs.labels)}: name one that was trained on the same classes."
        )


def check_of_samples(choice: Choice, method: Method, data: Inputs, label: str | None) -> None:
    """Refuse a protocol that a generator has no value of.

    Args:
        choice: the protocol.
        method: the generator.
        data: the real images.
        label: that samples should be of; None: of all.

    Raises:
        ConfigError: it looks at inputs, or labels aren't those of the data.
    """
    name = choice.protocol.name
    if not choice.protocol.of_outputs:
        raise ConfigError(f"{name} looks at inputs, and a generator has none: use frechet, fid, accuracy or the like.")
    _check_label(data, label)
    if "labels" not in choice.protocol.needs:
        return
    if method.targets and method.targets != data.labels:
        raise ConfigError(
            f"{name} reads the labels of samples, {', '.join(method.targets)}; those of {data.url} are "
            f"{', '.join(data.labels) or 'none'}."
        )
    if not method.targets and label is None:
        raise ConfigError(f"{name} needs to know what samples should be of: name a label of the data by --target.")


def check_of_images(choice: Choice, data: Inputs, label: str | None) -> None:
    """Refuse a protocol that has no value of real images in a generator's place.

    Args:
        choice: the protocol.
        data: the real images that they are held against.
        label: of those; None: of all.

    Raises:
        ConfigError: it looks at more than images, or the data has no such label.
    """
    protocol = choice.protocol
    if not protocol.of_outputs or protocol.classifier or "labels" in protocol.needs:
        raise ConfigError(f"{protocol.name} looks at more than two sets of images: use frechet, fid, kid or the like.")
    _check_label(data, label)


def _check_label(data: Inputs, label: str | None) -> None:
    if label is not None and label not in data.labels:
        raise ConfigError(f"{data.url} has no label '{label}'.{nearest(label, data.labels)}")


def check_counts(choice: Choice, inputs: int, real: int | None) -> None:
    """Refuse a protocol that needs more than there is.

    Raises:
        ConfigError: too few outputs or real images.
    """
    protocol, sampling = choice.protocol, choice.sampling
    found = len(chosen_places(inputs, sampling)) * sampling.samples
    reals = real if real is not None and protocol.keep_real else protocol.least
    for what, count in (("outputs", found), ("real images", reals)):
        if count < protocol.least:
            raise ConfigError(
                f"{protocol.name} takes {protocol.least} {what} at least, and there are {count}: use another protocol, "
                "more inputs or more samples."
            )
