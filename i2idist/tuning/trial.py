"""One trial: its runs, trained where its driver said, and what came of them. Nothing here knows the other trials."""

from __future__ import annotations

import functools
import logging
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import optuna

from i2idist import launch
from i2idist.errors import ConfigError, I2IError, LeaseError, NonFiniteError, RunError, StudyError
from i2idist.experiment import from_yaml
from i2idist.launch.run_folder import RunFolder
from i2idist.launch.runs import Result, result_of
from i2idist.tuning.objectives import Metric
from i2idist.tuning.samplers import make_pruner
from i2idist.tuning.search import Pruner
from i2idist.tuning.storage import Patient, is_absent, open_storage

_LOG = logging.getLogger("i2idist")
_LEASE_S = 5.0
_JUDGE_S = 15.0
"""How long a pruning decision waits for the storage; then the trial goes on."""


@dataclass(frozen=True)
class Judge:
    """Reports a trial's evaluations to its study, and asks the pruner. Picklable; called on rank 0 of the training.

    Attributes:
        url: the study's storage.
        study: its name.
        number: the trial's.
        objective: what is reported.
        pruner: what decides.
        every: images between evaluations.
        evaluations: of a whole trial; after the last nothing is pruned.
    """

    url: str
    study: str
    number: int
    objective: Metric
    pruner: Pruner
    every: int
    evaluations: int

    def __call__(self, images: int, values: Mapping[str, float]) -> bool:
        """Whether the trial isn't worth going on with.

        Raises:
            ConfigError: the validation doesn't give the objective, or the study isn't seen from here.
        """
        if is_absent(self.url):
            raise ConfigError(
                f"Trials are pruned where they train, and there is no {self.url} there: keep a cluster's studies in "
                "Postgres."
            )
        value = self.objective.of(values, "the objective")
        step = max(1, images // self.every)
        try:
            return Patient(_LOG.warning, _JUDGE_S)(lambda: self._decide(step, value))
        except (StudyError, optuna.exceptions.UpdateFinishedTrialError) as error:
            _LOG.warning("Evaluation %d wasn't reported to the study, and nothing was pruned: %s", step, error)
            return False

    def _decide(self, step: int, value: float) -> bool:
        storage = _opened(self.url)
        study = optuna.load_study(
            study_name=self.study, storage=storage, pruner=make_pruner(self.pruner, self.evaluations)
        )
        trial_id = storage.get_trial_id_from_study_id_trial_number(
            storage.get_study_id_from_name(self.study), self.number
        )
        if step not in storage.get_trial(trial_id).intermediate_values:
            storage.set_trial_intermediate_value(trial_id, step, value)
        return step < self.evaluations and study.pruner.prune(study, storage.get_trial(trial_id))


@functools.lru_cache(maxsize=4)
def _opened(url: str) -> optuna.storages.RDBStorage:
    return open_storage(url)


@dataclass(frozen=True)
class Task:
    """What an executor is given; picklable.

    Attributes:
        study: the study's name.
        number: the trial's.
        runs: the names of its runs, one for each seed.
        experiments: what each trains, as YAML.
        root: where runs are.
        metrics: what is wanted of the last validation.
        judge: prunes the first run; None: nothing does.
    """

    study: str
    number: int
    runs: tuple[str, ...]
    experiments: tuple[str, ...]
    root: str
    metrics: tuple[Metric, ...]
    judge: Judge | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        state: how it ended; `stopped` on request, with a checkpoint.
        values: by metric, the mean over its runs; those that it has.
        why: the error, in words.
        is_final: whether trying again can't help.
        mlflow_run_ids: of its runs.
        seconds: from the beginning to the end of this attempt.
        step_s: of them, inside training steps.
    """

    state: Literal["complete", "pruned", "stopped", "error"]
    values: Mapping[str, float]
    why: str | None = None
    is_final: bool = False
    mlflow_run_ids: tuple[str, ...] = ()
    seconds: float = 0.0
    step_s: float = 0.0


def run(task: Task) -> Outcome:
    """Train the runs of a trial, from wherever they stand. Errors become an outcome."""
    began, found, ids, step_s = time.monotonic(), list[Mapping[str, float]](), list[str](), 0.0

    def ended(state: Any, values: Mapping[str, float], **more: Any) -> Outcome:
        seconds = time.monotonic() - began
        return Outcome(state, values, mlflow_run_ids=tuple(ids), seconds=seconds, step_s=step_s, **more)

    try:
        for place, name in enumerate(task.runs):
            result = _train(task, place, name)
            ids += [result.mlflow_run_id] if result.mlflow_run_id else []
            step_s += result.step_s or 0.0
            if result.stopped == "stop":
                return ended("stopped", {})
            found.append(_values(task, name))
            if result.stopped == "pruned":
                return ended("pruned", found[0])
    except I2IError as error:
        return ended("error", {}, why=str(error), is_final=isinstance(error, (ConfigError, NonFiniteError)))
    except Exception as error:  # a defect, or the machine's: the search goes on without this attempt
        _LOG.exception("Trial %d failed", task.number)
        return ended("error", {}, why=f"{type(error).__name__}: {error}")
    means = {metric.metric: statistics.fmean(each[metric.metric] for each in found) for metric in task.metrics}
    strange = [f"{name} is {value}" for name, value in means.items() if not math.isfinite(value)]
    if strange:
        return ended("error", means, why=f"{', '.join(strange)}", is_final=True)
    return ended("complete", means)


def _train(task: Task, place: int, name: str) -> Result:
    """Train a run. One that another process still writes, for a driver that is taken for dead, is waited for."""
    experiment = from_yaml(task.experiments[place], f"trial {task.number}")
    folder = RunFolder(task.root, name)
    known = folder.result() if folder.exists() else None
    if known and known["stopped"] == "pruned":
        return result_of(folder, known)
    judge = task.judge if place == 0 else None
    while True:
        try:
            return launch.train(experiment, run=name, root=task.root, judge=judge, study=task.study)
        except LeaseError as error:
            _LOG.warning("%s", error)
            time.sleep(_LEASE_S)


def _values(task: Task, name: str) -> dict[str, float]:
    """The wanted values of a run's last validation, which its folder holds."""
    validations = [event for event in launch.logs(name, root=task.root) if event["event"] == "validation"]
    if not validations:
        raise RunError(f"The run '{name}' ended without a validation.")
    return {metric.metric: metric.of(validations[-1], "the objective") for metric in task.metrics}
