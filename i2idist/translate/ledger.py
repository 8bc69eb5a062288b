"""The catalog's rows about a translation. A catalog that is away costs its rows and a warning, not the translation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from i2idist.translate.job import Job
from i2idist.translate.shard import Done

if TYPE_CHECKING:
    from i2idist.catalog import Catalog
    from i2idist.catalog.hooks import Recorder


class Ledger:
    """Notes how a job goes; its methods return at once."""

    def __init__(self, job: Job, recorder: Recorder) -> None:
        """Note that the job runs."""
        self._job, self._recorder = job, recorder
        self._number: list[int] = []
        recorder.put(self._begin)

    def done(self, done: Done) -> None:
        """Note a finished shard."""
        entry = done.shard
        self._recorder.put(
            lambda catalog: catalog.record_shard(self._number[0], entry.name, "done", entry.count, entry.sha256)
        )

    def finish(self, state: str) -> None:
        """Note how the job ended."""
        self._recorder.put(lambda catalog: catalog.finish_translation(self._number[0], state))

    def _begin(self, catalog: Catalog) -> None:
        inputs, model = self._job.inputs, self._job.model
        if not inputs.are_codes:
            catalog.record_dataset(inputs.url, inputs.name, inputs.digest, inputs.role, inputs.counts)
        number = catalog.start_translation(
            self._job.digest,
            model.uri,
            model.version,
            inputs.url,
            inputs.digest,
            self._job.url,
            self._job.describe()["options"],
            run_url=model.card.lineage.get("run_url"),
        )
        self._number[:] = [number]


@contextmanager
def recorded(job: Job, say: Callable[[str], None]) -> Iterator[Ledger]:
    """The catalog's rows of a job, from here to its end, whichever way that comes."""
    from i2idist.catalog import engine, hooks

    recorder = hooks.Recorder(engine.default_url(), say, hooks.PATIENCE_S)
    try:
        ledger = Ledger(job, recorder)
        try:
            yield ledger
        except BaseException:
            ledger.finish("failed")
            raise
        ledger.finish("done")
    finally:
        recorder.close()
