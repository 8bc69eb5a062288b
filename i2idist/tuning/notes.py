"""What MLflow is told of a study: its own run, with plots and recipes, above those of its trials."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml

from i2idist.errors import I2IError, TrackingError
from i2idist.experiment import flatten
from i2idist.recipe import Dumper
from i2idist.tracking.settings import Tracking, resolve_uri, shown
from i2idist.tuning.ledger import is_over
from i2idist.tuning.results import best, counts, described, write_files
from i2idist.tuning.search import Search
from i2idist.tuning.study import IDENTITY, MLFLOW, ROOT, Asked, Board
from i2idist.tuning.trial import Outcome

Say = Callable[[str], None]


class Notes:
    """What MLflow is told of the study. While MLflow is away it is kept, and told later."""

    def __init__(self, search: Search, board: Board, say: Say) -> None:
        """Find or begin the study's MLflow run.

        Raises:
            TrackingError: MLflow doesn't answer.
        """
        self._say, self._board = say, board
        self._waiting: list[Callable[[], None]] = []
        self.uri: str | None = resolve_uri(search.recipe_of({}).tracking, str(board.attrs[ROOT]))
        self._head = (
            f"Search **{search.name}** around `{search.recipe}`: `i2idist studies show {board.study.study_name}`."
        )
        self.run_id: str | None = None
        if self.uri:
            self.run_id = self._begin(search, search.recipe_of({}).tracking)

    def _begin(self, search: Search, tracking: Tracking) -> str:
        from i2idist.tracking.study import AboutStudy, begin_study  # MLflow takes seconds to import

        assert self.uri is not None
        attrs = self._board.attrs
        known = self._board.awaited(MLFLOW) or {}
        if known.get("uri") == shown(self.uri):
            return str(known["run_id"])
        name, definition = self._board.study.study_name, search.definition()
        params = {key: value for key, value in flatten(definition).items() if not key.startswith("base.tracking.")}
        about = AboutStudy(
            name=name,
            identity=f"study-{attrs[IDENTITY]}",
            params=params,
            note=self._head,
            definition=yaml.dump(definition, Dumper=Dumper, sort_keys=False, width=120),
        )
        run_id = begin_study(tracking, self.uri, about)
        self._board.remember(MLFLOW, {"uri": shown(self.uri), "run_id": run_id})
        return run_id

    def trial(self, asked: Asked, outcome: Outcome) -> None:
        """A trial ended."""
        from i2idist.tracking.study import note_trial

        if self.uri is None:
            return
        metrics = {f"objective/{name}": value for name, value in outcome.values.items()}
        tags = {
            "i2idist.study": self._board.study.study_name,
            "i2idist.trial": str(asked.number),
            "i2idist.trial_state": outcome.state,
            **({"i2idist.trial_error": outcome.why} if outcome.why else {}),
        }
        for run_id in outcome.mlflow_run_ids:
            self._waiting.append(partial(note_trial, self.uri, run_id, metrics, tags))
        self.deliver()

    def deliver(self) -> None:
        """Tell what waits; stays with it where MLflow is away."""
        while self._waiting:
            try:
                self._waiting[0]()
            except TrackingError as error:
                self._say(f"Warning: {error} It is told later.")
                return
            except I2IError as error:  # MLflow doesn't know the run: it never will
                self._say(f"Warning: {error}")
            self._waiting.pop(0)

    def finish(self) -> None:
        """The search ended, or was ended: its plots, recipes and counts."""
        from i2idist.tracking.study import log_study

        self.deliver()
        if self.uri is None or self.run_id is None:
            return
        study, budget = self._board.study, self._board.search.budget
        standing = {f"trials/{state}": float(count) for state, count in counts(study, budget).items()}
        status = "FINISHED" if is_over(self._board.trials(), budget) else "RUNNING"
        self._say("Drawing the study's plots ...")
        try:
            with tempfile.TemporaryDirectory(prefix="i2idist-") as name:
                write_files(study, Path(name))
                log_study(self.uri, self.run_id, Path(name), standing, status, self._description(self.run_id))
        except I2IError as error:
            self._say(f"Warning: {error} The same command tells it again; `i2idist studies export` writes the files.")

    def _description(self, run_id: str) -> str:
        """Of the study's run, Markdown."""
        study = self._board.study
        listed = "\n".join(f"- trial {trial.number}: {described(study, trial)}" for trial in best(study))
        picture = "front.png" if len(study.directions) > 1 else "history.png"
        return f"{self._head}\n\nBest:\n\n{listed}\n\n![{picture}](get-artifact?path={picture}&run_uuid={run_id})"
