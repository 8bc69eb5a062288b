"""What a run's page in MLflow says before anything happens: the first line of its journal."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from i2idist.tracking.journal import Line


@dataclass(frozen=True, kw_only=True)
class About:
    """What the run page says about a run.

    Attributes:
        name: the run's name.
        params: the flattened experiment.
        tags: code revision, package versions, where the run is, and the like.
        experiment: the resolved experiment, YAML.
        dataset: name, digest and URL of the data, and its manifest's summary; None: none.
    """

    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, Any]
    experiment: str
    dataset: Mapping[str, Any] | None = None


def start_line(about: About) -> Line:
    """The line that tells MLflow of it."""
    return {
        "kind": "start",
        "time": time.time(),
        "params": {accepted(key): value for key, value in about.params.items()},
        "tags": {accepted(key): value for key, value in about.tags.items()},
        "experiment": about.experiment,
        "dataset": described_dataset(about.dataset) if about.dataset else None,
    }


def described_dataset(about: Mapping[str, Any]) -> dict[str, str]:
    """As MLflow describes a dataset; its digests end after 36 characters, so the whole one is in the profile."""
    kind = (
        "s3" if about["url"].startswith("s3://") else "generated" if about["url"].startswith("generated:") else "local"
    )
    profile = {key: value for key, value in about.items() if key not in ("name", "url")}
    return {
        "name": about["name"],
        "digest": about["digest"][:36],
        "source_type": kind,
        "source": json.dumps({"uri": about["url"]}),
        "profile": json.dumps(profile),
    }


def accepted(key: str) -> str:
    """A metric's, param's or tag's name as MLflow takes it: a name that it refused would stop all deliveries.

    It refuses other characters than these, and paths with parts that are empty or dots.
    """
    parts = re.sub(r"[^\w.\-/ ]", "_", key)[:240].split("/")
    return "/".join(part for part in parts if part.strip(".")) or "_"
