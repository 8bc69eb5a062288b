"""A value's record: everything that decides it, under a name that only comparable values share."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

import i2idist
from i2idist.evaluate.job import Evaluation
from i2idist.evaluate.protocol import Choice
from i2idist.evaluate.seen import Estimate
from i2idist.metrics import networks
from i2idist.translate.inputs import Inputs


@dataclass(frozen=True)
class Record:
    """One protocol's value of one model.

    Attributes:
        name: `PROTOCOL/NETWORK/DATASET-SPLIT/DIGEST`: equal for values that may be compared, and for no others.
        choice: the protocol with its choices.
        estimate: the value.
        conditions: what it was measured under, of which DIGEST is taken; the model is no part of it.
        model: whose value it is.
        made_by: versions of what computed it.
    """

    name: str
    choice: Choice
    estimate: Estimate
    conditions: dict[str, Any]
    model: dict[str, Any]
    made_by: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """All of it, without the per-input values."""
        found, protocol = self.estimate, self.choice.protocol
        return {
            "name": self.name,
            "protocol": protocol.name,
            "measures": protocol.measures,
            "better": protocol.better,
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "interval": found.interval or None,
            "details": dict(found.details),
            "counts": dict(found.counts),
            "notes": list(found.notes),
            "conditions": self.conditions,
            "model": self.model,
            "made_by": self.made_by,
        }


def make_record(evaluation: Evaluation, choice: Choice, estimate: Estimate) -> Record:
    """The record of a protocol's value."""
    job = evaluation.job
    model = {
        "uri": job.model.uri,
        "name": job.model.name,
        "version": job.model.version,
        "run_id": job.model.run_id,
        "weights_sha256": job.model.card.weights_sha256,
        "method": job.model.card.method,
    }
    found = conditions(evaluation, choice)
    made_by = {"i2idist": i2idist.__version__, "torch": torch.__version__, "device": job.options.device}
    return Record(comparable_name(choice, found), choice, estimate, found, model, made_by)


def conditions(evaluation: Evaluation, choice: Choice) -> dict[str, Any]:
    """Everything but the model that decides a protocol's value."""
    job, protocol = evaluation.job, choice.protocol
    reals = evaluation.reals if protocol.keep_real else None
    data, among, target = job.inputs, evaluation.among, job.options.target
    samples_of = "codes" if job.inputs.are_codes else "images" if evaluation.of_images else None
    if samples_of:
        assert evaluation.reals is not None, "a generator's data"
        data, among = evaluation.reals, evaluation.real_among
        target = evaluation.label if job.inputs.are_codes else target
    return {
        **of_choice(choice),
        "target": target,
        "size": list(evaluation.size_of(job.source)),
        "target_size": [job.target.channels, *evaluation.size_of(job.target)],
        "dataset": _about(data, among),
        **({"samples_of": samples_of} if samples_of else {}),
        "reals": _about(reals, evaluation.real_among) if reals else None,
        "classifier": evaluation.classifiers[protocol.classifier].describe() if protocol.classifier else None,
    }


def of_choice(choice: Choice) -> dict[str, Any]:
    """What a protocol and its choices say."""
    protocol, sampling = choice.protocol, choice.sampling
    network = networks.described(choice.network) if choice.network else None
    return {
        "protocol": protocol.name,
        "revision": protocol.revision,
        "network": network and {key: network[key] for key in ("network", "version", "weights", "resize")},
        "inputs": sampling.inputs or "all",
        "samples": sampling.samples,
        "pairs": protocol.pairs,
        "reals_at_most": protocol.reals,
        "seed": sampling.seed,
        "attribute": choice.attribute,
    }


def _about(inputs: Inputs, among: tuple[int, ...] | None) -> dict[str, Any]:
    """Which images. Where they lie is for people and no part of the digest."""
    images = Counter[str]()
    for item in inputs.items:
        images[item.split] += item.count
    return {
        "name": inputs.name,
        "digest": inputs.digest,
        "domain": inputs.domain,
        "images": dict(images),
        "chosen_by_label": None if among is None else len(among),
        "url": inputs.url,
    }


def comparable_name(choice: Choice, found: dict[str, Any]) -> str:
    """`PROTOCOL/NETWORK/DATASET-SPLIT/DIGEST`, the digest being of all conditions but places."""
    dataset = found["dataset"]
    splits = list(dataset["images"])
    where = f"{dataset['name']}-{splits[0] if len(splits) == 1 else 'all'}"
    digest = hashlib.sha256(json.dumps(_without_places(found), sort_keys=True).encode()).hexdigest()[:8]
    through = choice.network or choice.attribute or ("classifier" if found["classifier"] else None)
    parts = [choice.protocol.name, through, where, digest]
    return "/".join(re.sub(r"[^\w.-]+", "-", part) for part in parts if part)


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(inner) for key, inner in value.items() if key != "url"}
    return value


def table(records: Sequence[Record]) -> str:
    """The values as a Markdown table."""
    lines = ["| value | | 95 % interval | inputs | outputs | reals |", "| --- | ---: | --- | ---: | ---: | ---: |"]
    for record in records:
        counts = record.estimate.counts
        numbers = (f"{counts[key]:,}" if counts.get(key) else "" for key in ("inputs", "outputs", "reals"))
        cells = [record.name, shown(record.estimate.value), shown_interval(record.estimate), *numbers]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def shown(value: float) -> str:
    """Four significant digits."""
    return f"{value:#.4g}"


def shown_interval(estimate: Estimate) -> str:
    """The interval, or a dash."""
    if estimate.low is None or estimate.high is None:
        return "-"
    return f"{shown(estimate.low)} to {shown(estimate.high)}"
