"""Every error that i2idist raises on purpose.

A message says what was wrong, where (file, key, shard, sample), and what to do about it. The command line prints the
message without a traceback and exits with the class's `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class I2IError(Exception):
    """Base of all deliberate errors."""

    exit_code = 1


class ConfigError(I2IError):
    """A recipe, override or option that can't be used."""

    exit_code = 2


class SizeError(ConfigError):
    """An image size that the method can't process; names sizes that it can."""


class SourceError(ConfigError):
    """A pretrained source or weight file that is absent, or differs from its digest."""


class DataError(I2IError):
    """A dataset that can't be packed or read."""

    exit_code = 3


class ManifestError(DataError):
    """A manifest that is missing, malformed, or of an unknown schema version."""


class ShardError(DataError):
    """A shard that is missing, truncated, or whose hash differs from the manifest's."""


class SampleError(DataError):
    """One sample that can't be decoded or is unsafe to decode."""


class StorageError(I2IError):
    """Storage that can't be reached, or refuses a read or a write."""

    exit_code = 4


class RunError(I2IError):
    """A run that can't be created, resumed or stopped."""

    exit_code = 5


class LeaseError(RunError):
    """A run folder that another process is writing."""


class CheckpointError(RunError):
    """A checkpoint that is damaged, or doesn't fit the method."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose files are missing or aren't what was committed; an older one may do."""


class NonFiniteError(RunError):
    """A loss or gradient that is not finite; all ranks stop together."""

    exit_code = 6


class ConformanceError(I2IError):
    """A method that breaks a promise of the conformance suite."""

    exit_code = 7


class TrackingError(I2IError):
    """An MLflow server or model registry that can't be reached, or refuses."""

    exit_code = 8


class CatalogError(I2IError):
    """A catalog that can't be reached, is of a newer version, or doesn't know a name."""

    exit_code = 9


class ServiceError(I2IError):
    """A server beside i2idist that can't be started, or doesn't answer."""

    exit_code = 10


class SubmissionError(I2IError):
    """A Ray cluster that can't be reached, or refuses; a job that it doesn't know; code that differs from its own."""

    exit_code = 11


class StudyError(I2IError):
    """A search's storage that can't be reached; a study that isn't there, or belongs to another search."""

    exit_code = 12


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest of `known`, or a list of what is known."""
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(options)}." if options else ""
