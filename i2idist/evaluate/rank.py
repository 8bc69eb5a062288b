"""Which pretrained generators to start from: ranked by how near what they make is to a target's real images.

TransferGAN (Wang's thesis, section 2.3.7 and Table 2.5): a rough indicator of suitability, before any training. What
else counts is how good a source is, and how dense its data; the thesis's Table 2.4 has the outcomes to compare with.
Datasets that generators would learn from are ranked by their own images (Table A.1), before there is a generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from i2idist.errors import ConfigError
from i2idist.evaluate.protocol import Choice
from i2idist.evaluate.record import Record
from i2idist.evaluate.run import Evaluated, evaluate
from i2idist.translate.job import Options

NOTE = (
    "A rough rank: the distance of a source's images, as they are, from the target's real images. A nearer source need "
    "not become the better model."
)


@dataclass(frozen=True)
class Ranked:
    """A source in its place.

    Attributes:
        uri: as it was named.
        label: name and version.
        record: its distance.
    """

    uri: str
    label: str
    record: Record

    def as_json(self) -> dict[str, Any]:
        """The source and its distance."""
        return {"uri": self.uri, "model": self.label, **self.record.as_json()}


def rank_sources(
    dataset_url: str, models: Sequence[str], choice: Choice, options: Options | None = None, **how: Any
) -> list[Ranked]:
    """Generators by their distance from a target, the nearest first.

    Args:
        dataset_url: the target: a packed dataset, `generated:...`, or a folder of images.
        models: the sources, as `evaluate` takes them: generators, or the datasets that such learn from (Table A.1).
        choice: the distance: a protocol of which lower is better.
        options: see `evaluate`.
        how: further arguments of `evaluate`.

    Raises:
        ConfigError: no models, or one that translates, or a protocol that is no distance.
        I2IError: as `evaluate`.
    """
    if not models:
        raise ConfigError("Name a generator to rank, or several.")
    if choice.protocol.better != "lower" or "reals" not in choice.protocol.needs:
        raise ConfigError(f"{choice.protocol.name} is no distance from real images: use frechet, fid or the like.")
    found: list[tuple[str, Evaluated]] = []
    for uri in models:
        beside = found[0][1] if found else None
        one = evaluate(uri, dataset_url, [choice], options, beside=beside, **how)
        if not (one.evaluation.job.inputs.are_codes or one.evaluation.of_images):
            raise ConfigError(f"{uri} translates images: sources of a transfer are generators.")
        found.append((uri, one))
    ranked = [Ranked(uri, one.model.label, one.records[0]) for uri, one in found]
    return sorted(ranked, key=lambda one: one.record.estimate.value)
