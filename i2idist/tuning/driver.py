"""The driver of a search: asks, runs trials on a crew, tells; and goes on from wherever it, or another, was ended."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from i2idist.errors import ConfigError
from i2idist.experiment import Experiment
from i2idist.launch.processes import cores
from i2idist.launch.run_folder import RunFolder, check_name, runs_root
from i2idist.launch.signals import Interruption
from i2idist.tuning.crews import Crew, crew_for
from i2idist.tuning.ledger import is_over
from i2idist.tuning.measured import check_measured
from i2idist.tuning.notes import Notes
from i2idist.tuning.results import best, counts, described
from i2idist.tuning.search import Search
from i2idist.tuning.space import Params
from i2idist.tuning.storage import is_shared, open_storage, sole_driver, storage_url
from i2idist.tuning.study import Asked, Board, open_board
from i2idist.tuning.trial import Judge, Outcome, Task, run

_POLL_S = 1.0
_SWEEP_S = 5.0
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a search stands when its driver ends.

    Attributes:
        study: its name.
        storage: where it is.
        counts: points by state, see `results.counts`.
        best: the best trial, or those of the Pareto front, in words by number.
        mlflow_run_id: the study's run; None where it is offline.
        signal: number of the signal that stopped it before its end; None where none did.
    """

    study: str
    storage: str
    counts: dict[str, int]
    best: dict[int, str]
    mlflow_run_id: str | None
    signal: int | None = None


def tune(
    search: Search,
    *,
    study: str | None = None,
    storage: str | None = None,
    root: str | None = None,
    say: Say = lambda message: None,
) -> Summary:
    """Run a search to its end, or go on with it; several drivers may, on one Postgres.

    Ctrl-C ends it with a checkpoint of each running trial; the same call goes on from there.

    Args:
        search: what is searched.
        study: the study's name; None: the search's.
        storage: the URL of Optuna's storage; None: I2IDIST_STUDIES, or a SQLite file beside the runs.
        root: where the trials' runs are; None: I2IDIST_RUNS, or ./runs.
        say: told what happens.

    Raises:
        ConfigError: the search can't be used.
        StudyError: the storage can't be used, or stays away; or the study is another search's.
        TrackingError: MLflow doesn't answer at the start, and the recipe isn't `tracking.offline`.
    """
    name, place, url = study or search.name, runs_root(root), storage_url(storage, root)
    check_name(f"{name}-t0-s0")
    with sole_driver(url, name):
        opened = open_storage(url)
        check_measured(search, place, say)
        search = dataclasses.replace(search, base=_with_threads(search).as_dict())
        board = open_board(search, name, opened, place, say, is_shared(url))
        try:
            notes, resources = Notes(search, board, say), search.recipe_of({}).resources
            with Interruption(say) as interruption, crew_for(search.concurrency, resources, say) as crew:
                _Driver(board, crew, url, place, notes, interruption, say).work()
            notes.finish()
            found = board.study
            return Summary(
                study=name,
                storage=url,
                counts=counts(found, search.budget),
                best={trial.number: described(found, trial) for trial in best(found)},
                mlflow_run_id=notes.run_id,
                signal=None if is_over(board.trials(), search.budget) else interruption.number,
            )
        finally:
            board.close()


def _with_threads(search: Search) -> Experiment:
    """The base with as many threads a worker as trials at once leave it."""
    experiment = search.recipe_of({})
    if experiment.resources.threads_per_worker is not None:
        return experiment
    workers = experiment.resources.workers_range[1] * search.concurrency
    return experiment.replace_resources(threads_per_worker=_threads(workers))


def _threads(workers: int) -> int:
    if os.environ.get("RAY_ADDRESS"):
        from i2idist.launch.cluster import threads_on_cluster

        return threads_on_cluster(workers)
    return max(1, cores() // workers)


@dataclass
class _Running:
    asked: Asked
    task: Task
    began: float


class _Driver:
    """The loop, and what it holds."""

    def __init__(
        self, board: Board, crew: Crew, url: str, root: str, notes: Notes, interruption: Callable[[], bool], say: Say
    ) -> None:
        self._board, self._crew, self._url, self._root = board, crew, url, root
        self._search, self._notes, self._interrupted, self._say = board.search, notes, interruption, say
        self._running: dict[int, _Running] = {}
        self._swept = float("-inf")

    def work(self) -> None:
        """Until every trial of the budget has ended, or nothing more may begin."""
        hours = self._search.hours
        deadline = float("inf") if hours is None else time.monotonic() + 3600 * hours
        while True:
            self._sweep()
            ending = self._interrupted() or time.monotonic() > deadline
            if not ending:
                self._fill()
            elif self._interrupted():
                self._stop_trials()
            ended = self._crew.ended(_POLL_S)
            for key, outcome, error in ended:
                self._settle(self._running.pop(int(str(key))), outcome, error)
            if not self._running and (ending or is_over(self._board.trials(), self._search.budget)):
                return
            if not self._running and not ended:
                time.sleep(_POLL_S)  # other drivers' trials may still come to us

    def _sweep(self) -> None:
        if time.monotonic() - self._swept > _SWEEP_S:
            for line in self._board.sweep(set(self._running)):
                self._say(line)
            self._swept = time.monotonic()

    def _fill(self) -> None:
        while len(self._running) < self._crew.size:
            asked = self._board.ask()
            if asked is None:
                return
            self._start(asked)

    def _start(self, asked: Asked) -> None:
        try:
            task = self._task(asked)
        except ConfigError as error:
            self._board.fail(asked.number, "given up", str(error), retry=False)
            self._say(f"Trial {asked.number} can't be run: {error}")
            return
        self._board.note(asked, runs=list(task.runs))
        self._running[asked.number] = _Running(asked, task, time.monotonic())
        again = "" if asked.origin == asked.number else f" (trial {asked.origin} again)"
        self._say(f"Trial {asked.number}{again}: {_point(asked.params)}")
        self._crew.start(asked.number, partial(run, task))

    def _task(self, asked: Asked) -> Task:
        search, name = self._search, f"{self._board.study.study_name}-t{asked.origin}"
        seeds = range(search.seeds)
        experiments = [self._nested(search.experiment(asked.params, asked.number, seed=seed)) for seed in seeds]
        judge = None
        if search.pruner.name != "none":
            every = experiments[0].train.validate_every_images or 1
            judge = Judge(
                self._url,
                self._board.study.study_name,
                asked.number,
                search.objectives[0],
                search.pruner,
                every,
                search.evaluations,
            )
        return Task(
            self._board.study.study_name,
            asked.number,
            tuple(name if search.seeds == 1 else f"{name}-s{seed}" for seed in seeds),
            tuple(experiment.as_yaml() for experiment in experiments),
            self._root,
            (*search.objectives, *search.constraints),
            judge,
        )

    def _nested(self, experiment: Experiment) -> Experiment:
        tracking = dataclasses.replace(experiment.tracking, parent=self._notes.run_id)
        return dataclasses.replace(experiment, tracking=tracking)

    def _stop_trials(self) -> None:
        """Ask again and again: a run that is just starting clears requests of before."""
        for running in self._running.values():
            for name in running.task.runs:
                folder = RunFolder(self._root, name)
                if folder.exists() and folder.result() is None and not folder.stop_requested():
                    folder.request_stop()

    def _settle(self, running: _Running, outcome: Outcome | None, error: str | None) -> None:
        asked = running.asked
        if outcome is None:
            self._board.fail(asked.number, "error", f"its worker died: {error}", retry=True)
            self._say(f"Trial {asked.number}: its worker died.")
            return
        seconds = round(time.monotonic() - running.began, 3)
        ids = list(outcome.mlflow_run_ids)
        self._board.note(asked, seconds=seconds, step_s=round(outcome.step_s, 3), mlflow_run_ids=ids)
        counts = self._tell(asked, running.task, outcome)
        state = outcome.state if counts else "counted elsewhere"
        values = ", ".join(f"{name} {value:.4g}" for name, value in outcome.values.items())
        self._say(f"Trial {asked.number}: {state} after {seconds:.0f} s{': ' if values else ''}{values}")
        self._notes.trial(asked, outcome)

    def _tell(self, asked: Asked, task: Task, outcome: Outcome) -> bool:
        search, board, values = self._search, self._board, outcome.values
        match outcome.state:
            case "complete":
                violations: dict[str, float] = {}
                for constraint in search.constraints:
                    violations |= constraint.violations(values[constraint.metric])
                return board.complete(asked, [values[one.metric] for one in search.objectives], violations)
            case "pruned":
                return board.prune(asked)
            case "stopped":
                self._tell_stopped(asked, task)
            case "error":
                why = outcome.why or "unknown"
                board.fail(asked.number, "given up" if outcome.is_final else "error", why, retry=not outcome.is_final)
                self._say(f"Trial {asked.number} failed: {why}")
        return True

    def _tell_stopped(self, asked: Asked, task: Task) -> None:
        if self._interrupted():
            self._board.fail(asked.number, "stopped", "stopped with the search", retry=True)
        elif any(RunFolder(self._root, name).stop_requested() for name in task.runs):
            self._board.fail(asked.number, "given up", "stopped by `i2idist stop`", retry=False)
        else:
            self._board.fail(asked.number, "lost", "its process was told to end", retry=True)


def _point(params: Params) -> str:
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()
    )
