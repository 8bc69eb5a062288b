"""A study as a driver sees it: made or found, asked, told, swept; through outages of its storage."""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from i2idist.errors import StudyError, nearest
from i2idist.launch.processes import Process
from i2idist.launch.run_folder import RunFolder
from i2idist.storage import list_dir
from i2idist.tuning.ledger import DRIVER, FAILURE, MAX_LOST, ORIGIN, RETRY_OF, Chain, Kind, chains, may_ask, surplus
from i2idist.tuning.samplers import make_pruner, make_sampler, suggest_all
from i2idist.tuning.search import Search, differing, from_definition
from i2idist.tuning.space import Params
from i2idist.tuning.storage import Patient, open_storage

SEARCH, IDENTITY, ROOT, MLFLOW, READY = "search", "identity", "root", "mlflow", "ready"
"""Attributes of a study: its search; what it is known by elsewhere; where its runs are; its MLflow run; set up."""
HEARTBEAT_S, STALE_S = 5.0, 60.0
_SETUP_S = 20.0
_POLL_S = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """A trial to run.

    Attributes:
        trial: Optuna's.
        origin: its chain, see `ledger`.
        params: its point.
    """

    trial: optuna.Trial
    origin: int
    params: Params

    @property
    def number(self) -> int:
        """Its number."""
        return self.trial.number


def load(url: str, name: str, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
    """A study of that name, to be looked at.

    Raises:
        StudyError: there is none; names the nearest.
    """
    storage = open_storage(url)
    try:
        return optuna.load_study(study_name=name, storage=storage, sampler=sampler)
    except KeyError as error:
        known = optuna.get_all_study_names(storage)
        raise StudyError(f"There is no study '{name}' in {url}.{nearest(name, known)}") from error


def search_of(study: optuna.Study) -> Search:
    """The search that a study belongs to.

    Raises:
        StudyError: it wasn't made by i2idist.
    """
    found = study.user_attrs.get(SEARCH)
    if not isinstance(found, dict):
        raise StudyError(f"The study '{study.study_name}' wasn't made by `i2idist tune`: give another --study name.")
    return from_definition(found, f"study {study.study_name}")


class Board:
    """A study, driven. Every call outlasts a storage that is away for some minutes."""

    def __init__(
        self,
        study: optuna.Study,
        storage: RDBStorage,
        search: Search,
        patient: Patient,
        *,
        is_new: bool,
        is_shared: bool,
    ) -> None:
        """Made by `open_board`."""
        self._is_shared = is_shared
        self.study, self.search, self.is_new = study, search, is_new
        self._storage, self._patient = storage, patient
        self._study_id = patient(lambda: storage.get_study_id_from_name(study.study_name))
        self.driver = f"driver:{uuid.uuid4().hex[:12]}"
        self._silence: dict[str, tuple[Any, float]] = {}
        self._outages = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="study heartbeat", daemon=True)
        self._tell_alive(0)
        self._thread.start()

    @property
    def attrs(self) -> dict[str, Any]:
        """What the study remembers."""
        return self._patient(lambda: self.study.user_attrs)

    def awaited(self, key: str) -> Any:
        """What the study remembers; where another driver may just be about to say it, after a moment."""
        deadline = time.monotonic() + (0.0 if self.is_new or not self._is_shared else _SETUP_S)
        while key not in self.attrs and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return self.attrs.get(key)

    def remember(self, key: str, value: Any) -> None:
        """Let the study remember something."""
        self._patient(lambda: self.study.set_user_attr(key, value))

    def trials(self) -> list[FrozenTrial]:
        """All trials, as they are now."""
        return self._patient(lambda: self.study.get_trials(deepcopy=False))

    def close(self) -> None:
        """Stop the heartbeat. Trials that this driver still runs are lost then."""
        self._done.set()
        self._thread.join()
        try:
            self._tell_alive(-1)
        except StorageInternalError:
            return  # then its process will be seen to be dead, or silent

    def ask(self) -> Asked | None:
        """A trial to run; None where there is none, or other drivers were quicker."""
        budget = self.search.budget
        if not may_ask(self.trials(), budget):
            return None
        trial = self._patient(self.study.ask)
        self._patient(lambda: trial.set_user_attr(DRIVER, self.driver))
        reason = surplus(trial.number, self.trials(), budget)
        if reason:
            self.fail(trial.number, "unrun", reason, retry=False)
            return None
        params = self._patient(lambda: suggest_all(trial, self.search.space))
        return Asked(trial, int(trial.user_attrs.get(ORIGIN, trial.number)), params)

    def note(self, asked: Asked, **attrs: Any) -> None:
        """Let a running trial remember something."""
        for key, value in attrs.items():
            self._update(asked.number, key, value)

    def complete(self, asked: Asked, values: list[float], violations: Mapping[str, float]) -> bool:
        """The trial ended with these values; whether that counts, which it doesn't where it was swept."""
        for name, violation in violations.items():
            self._patient(lambda n=name, v=violation: asked.trial.set_constraint(n, v))  # type: ignore[misc]
        return self._tell(asked.number, TrialState.COMPLETE, values)

    def prune(self, asked: Asked) -> bool:
        """The trial was pruned; whether that counts."""
        return self._tell(asked.number, TrialState.PRUNED)

    def fail(self, number: int, kind: Kind, why: str, *, retry: bool) -> None:
        """The trial failed.

        Args:
            number: which.
            kind: how.
            why: for people.
            retry: whether it is to be tried again, if its budget allows.
        """
        if kind in ("error", "lost"):
            retry = retry and self._may_retry(number, kind)
        self._update(number, FAILURE, {"kind": kind, "why": why, "retry": retry})
        self._tell(number, TrialState.FAIL)

    def _may_retry(self, number: int, kind: Kind) -> bool:
        chain = self.chain(number)
        return chain.count(kind) < (self.search.retries if kind == "error" else MAX_LOST)

    def chain(self, number: int) -> Chain:
        """The chain of a trial."""
        return next(c for c in chains(self.trials()) if any(trial.number == number for trial in c.attempts))

    def sweep(self, running: set[int]) -> list[str]:
        """Fail trials whose driver is gone, and queue what is to be tried again.

        Args:
            running: this driver's own trials.

        Returns:
            What was done, for people.
        """
        said: list[str] = []
        attrs = self.attrs
        if self._patient.outages > self._outages:  # nobody could show a sign of life
            self._outages = self._patient.outages
            self._silence.clear()
        for trial in self.trials():
            if trial.state == TrialState.RUNNING and trial.number not in running:
                said += self._sweep_one(trial, attrs)
        for chain in chains(self.trials()):
            if chain.unrepeated:
                self._repeat(chain, chain.unrepeated)
                said.append(f"Trial {chain.origin} will be tried again: {chain.failures()[-1]}.")
        return said

    def _sweep_one(self, trial: FrozenTrial, attrs: Mapping[str, Any]) -> list[str]:
        driver = trial.user_attrs.get(DRIVER)
        why = self._gone(trial, driver, attrs.get(driver) if driver else None)
        if why is None:
            return []
        if driver is None:  # its driver died, or lost its connection, before anything of it was run
            self.fail(trial.number, "unrun", why, retry=False)
            return []
        self.fail(trial.number, "lost", why, retry=True)
        return [f"Trial {trial.number} was lost: {why}."]

    def _gone(self, trial: FrozenTrial, driver: str | None, record: dict[str, Any] | None) -> str | None:
        """Why a trial's driver is taken for dead; None while it may live."""
        if driver == self.driver:
            return None
        if record:
            process = Process.from_dict(record["process"])
            if record["beat"] < 0:
                return "its driver ended"
            if process.is_here and not process.alive():
                return f"its driver, process {process.pid}, died"
        key = driver or f"trial {trial.number}"
        seen, since = self._silence.setdefault(key, (record, time.monotonic()))
        if seen != record:
            self._silence[key] = (record, time.monotonic())
            return None
        return f"no sign of life of its driver for {STALE_S:.0f} s" if time.monotonic() - since > STALE_S else None

    def _repeat(self, chain: Chain, failed: FrozenTrial) -> None:
        """Queue an attempt at the same point. It keeps what was reported: it goes on from a checkpoint."""
        fixed = {**failed.system_attrs.get("fixed_params", {}), **failed.params}
        following = create_trial(
            state=TrialState.WAITING,
            system_attrs={"fixed_params": fixed},
            user_attrs={ORIGIN: chain.origin, RETRY_OF: failed.number},
            intermediate_values=dict(failed.intermediate_values),
        )
        self._patient(lambda: self.study.add_trial(following))

    def _update(self, number: int, key: str, value: Any) -> None:
        """Set an attribute of a trial; one that another process has finished meanwhile stays as it is."""

        def update() -> None:
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            self._storage.set_trial_user_attr(trial_id, key, value)

        try:
            self._patient(update)
        except UpdateFinishedTrialError:
            return

    def _tell(self, number: int, state: TrialState, values: list[float] | None = None) -> bool:
        try:
            told = self._patient(lambda: self.study.tell(number, values, state, skip_if_finished=True))
        except UpdateFinishedTrialError:
            return False
        return told.state == state

    def _beat(self) -> None:
        count = 0
        while not self._done.wait(HEARTBEAT_S):
            count += 1
            try:
                self._tell_alive(count)
            except StorageInternalError:
                continue  # without the storage nobody can sweep either

    def _tell_alive(self, beat: int) -> None:
        record = {"process": dataclasses.asdict(Process.current()), "beat": beat}
        self._storage.set_study_user_attr(self._study_id, self.driver, record)


def open_board(search: Search, name: str, storage: RDBStorage, root: str, say: Say, is_shared: bool) -> Board:
    """Create a study, or find the one of that name, and make sure that it is this search's.

    Args:
        search: the search.
        name: the study's.
        storage: where it is.
        root: where runs are.
        say: told what a person waits for.
        is_shared: whether there may be other drivers.

    Raises:
        StudyError: the storage can't be used, or the study is another search's.
    """
    patient = Patient(say)
    if name not in optuna.get_all_study_names(storage):
        _refuse_old_runs(name, root)
    try:
        study = optuna.create_study(
            study_name=name, storage=storage, directions=[objective.resolved for objective in search.objectives]
        )
        is_new = True
    except DuplicatedStudyError:
        study, is_new = optuna.load_study(study_name=name, storage=storage), False
    if not is_new:
        _await_setup(study, wait_s=_SETUP_S if is_shared else 0.0)
        is_new = not study.user_attrs.get(READY) and _is_bare(study)
    if not is_new:
        _require_same(study, search, root)
    settings = search.sampler
    if is_shared and not is_new:  # drivers that draw alike would try the same points
        settings = dataclasses.replace(settings, seed=None)
    study.sampler = make_sampler(settings, len(study.get_trials(deepcopy=False)))
    study.pruner = make_pruner(search.pruner, search.evaluations)
    if is_new:
        _set_up(study, search, root)
    return Board(study, storage, search, patient, is_new=is_new, is_shared=is_shared)


def _refuse_old_runs(name: str, root: str) -> None:
    """A new study would go on with the runs of one of the same name that was deleted."""
    found = [run for run in list_dir(root) if run.startswith(f"{name}-t") and RunFolder(root, run).exists()]
    if found:
        raise StudyError(
            f"{root} holds runs of an earlier study '{name}', such as {found[0]}: give another --study or --root, or "
            "remove them."
        )


def _await_setup(study: optuna.Study, wait_s: float) -> None:
    """Give another driver, which has just made the study, the time to set it up."""
    deadline = time.monotonic() + wait_s
    while not study.user_attrs.get(READY) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _is_bare(study: optuna.Study) -> bool:
    """Whether who made the study died before it was set up."""
    return SEARCH in study.user_attrs or not study.get_trials(deepcopy=False)


def _set_up(study: optuna.Study, search: Search, root: str) -> None:
    study.set_metric_names([objective.metric for objective in search.objectives])
    study.set_user_attr(ROOT, root)
    if IDENTITY not in study.user_attrs:
        study.set_user_attr(IDENTITY, uuid.uuid4().hex)
    study.set_user_attr(SEARCH, search.definition())
    for point in search.starting()[: search.budget]:
        study.enqueue_trial(point, skip_if_exists=True)
    study.set_user_attr(READY, True)


def _require_same(study: optuna.Study, search: Search, root: str) -> None:
    changes = differing(search_of(study), search)
    if changes:
        listed = "; ".join(f"{key} is {old!r} there, {new!r} here" for key, (old, new) in changes.items())
        raise StudyError(
            f"The study '{study.study_name}' is of another search: {listed}. Use those values, or give another --study."
        )
    known = study.user_attrs.get(ROOT)
    if known != root:
        raise StudyError(
            f"The runs of the study '{study.study_name}' are in {known}, not in {root}: give that --root, or another "
            "--study."
        )
