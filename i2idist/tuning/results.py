"""What came of a study: how it stands, its best points, their recipes, tables and files."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from i2idist import storage
from i2idist.errors import StudyError
from i2idist.experiment import Experiment
from i2idist.tuning.ledger import Chain, chains
from i2idist.tuning.search import Search
from i2idist.tuning.storage import open_storage
from i2idist.tuning.study import MLFLOW, ROOT, SEARCH, search_of

STATES = ("complete", "pruned", "failed", "running", "waiting")


def counts(study: optuna.Study, budget: int | None = None) -> dict[str, int]:
    """How many points stand how; attempts at one point are counted once."""
    found = chains(study.get_trials(deepcopy=False))[:budget]
    return {state: sum(chain.state == state for chain in found) for state in STATES}


def best(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or those of the Pareto front, by number; none where no trial is complete and within bounds."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not any(all(value <= 0 for value in trial.constraints.values()) for trial in complete):
        return []
    if len(study.directions) == 1:
        return [study.best_trial]
    return sorted(study.best_trials, key=lambda trial: trial.number)


def values_of(study: optuna.Study, trial: FrozenTrial) -> dict[str, float]:
    """A trial's objectives by metric."""
    names = study.metric_names or [str(place) for place in range(len(study.directions))]
    return dict(zip(names, trial.values or (), strict=False))


def chosen(study: optuna.Study, number: int | None) -> FrozenTrial:
    """The trial of that number, or the best.

    Raises:
        StudyError: there is no such complete trial, or several are best and none is named.
    """
    if number is not None:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        for trial in complete:
            if trial.number == number:
                return trial
        known = ", ".join(str(trial.number) for trial in complete) or "none"
        raise StudyError(f"The study '{study.study_name}' has no complete trial {number}. Complete: {known}.")
    front = best(study)
    if not front:
        raise StudyError(f"The study '{study.study_name}' has no complete trial within its constraints yet.")
    if len(front) > 1:
        listed = "; ".join(f"{trial.number}: {described(study, trial)}" for trial in front)
        raise StudyError(
            f"The study '{study.study_name}' has {len(front)} best trials, none of which is better than another in all "
            f"objectives: choose one with --trial. {listed}"
        )
    return front[0]


def described(study: optuna.Study, trial: FrozenTrial) -> str:
    """A trial's point and values, for a line."""
    point = ", ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
    values = ", ".join(f"{name} {_short(value)}" for name, value in values_of(study, trial).items())
    return f"{point} -> {values}" if values else point


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def recipe_text(study: optuna.Study, search: Search, trial: FrozenTrial) -> str:
    """A trial's recipe at the search's full length, YAML, for `i2idist train`."""
    head = f"# Study {study.study_name}, trial {trial.number}: {described(study, trial)}\n"
    return head + search.recipe_of(trial.params).as_yaml()


def recipe_of(study: optuna.Study, number: int | None) -> tuple[FrozenTrial, Experiment]:
    """The trial of that number, or the best, and its recipe; errors as `chosen`."""
    trial = chosen(study, number)
    return trial, search_of(study).recipe_of(trial.params)


def row(study: optuna.Study, chain: Chain) -> dict[str, Any]:
    """A point, JSON-able."""
    trial = chain.latest
    seconds = trial.duration.total_seconds() if trial.duration else None
    return {
        "trial": trial.number,
        "state": chain.state,
        **{f"param {key}": value for key, value in trial.params.items()},
        **values_of(study, trial),
        **{f"constraint {name}": value for name, value in trial.constraints.items()},
        "seconds": seconds,
        "step_s": trial.user_attrs.get("step_s"),
        "attempts": len(chain.attempts),
        "failures": "; ".join(chain.failures()) or None,
        "runs": " ".join(trial.user_attrs.get("runs", ())),
        "mlflow_run_ids": " ".join(trial.user_attrs.get("mlflow_run_ids", ())),
    }


def standing(study: optuna.Study) -> dict[str, Any]:
    """How a study stands, JSON-able."""
    search = search_of(study)
    attrs = study.user_attrs
    trials = study.get_trials(deepcopy=False)
    return {
        "study": study.study_name,
        "search": search.name,
        "recipe": search.recipe,
        "root": attrs.get(ROOT),
        "mlflow": attrs.get(MLFLOW),
        "objectives": {objective.metric: objective.resolved for objective in search.objectives},
        "counts": counts(study),
        "unrun": len(trials) - sum(len(chain.attempts) for chain in chains(trials)),
        "best": [trial.number for trial in best(study)],
        "trials": [row(study, chain) for chain in chains(trials)],
    }


def listed(url: str) -> list[dict[str, Any]]:
    """The studies of a storage, JSON-able, the newest first."""
    storage = open_storage(url)
    found = sorted(optuna.get_all_study_summaries(storage), key=lambda one: str(one.datetime_start), reverse=True)
    rows = []
    for summary in found:
        study = optuna.load_study(study_name=summary.study_name, storage=storage)
        is_ours = SEARCH in summary.user_attrs
        rows.append(
            {
                "study": summary.study_name,
                "search": search_of(study).name if is_ours else None,
                "begun": summary.datetime_start and summary.datetime_start.isoformat(timespec="seconds"),
                **{state: count for state, count in counts(study).items() if count},
                "best": "; ".join(f"{trial.number}: {described(study, trial)}" for trial in best(study)[:3]) or None,
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV."""
    columns = list(dict.fromkeys(key for each in rows for key in each))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_files(study: optuna.Study, folder: Path) -> list[str]:
    """Write what there is of a study below `folder`: table, standing, recipes of the best, plots; their names."""
    from i2idist.tuning.plots import write_plots  # brings matplotlib and plotly

    search, found = search_of(study), standing(study)
    (folder / "trials.csv").write_text(table(found["trials"]))
    (folder / "study.json").write_text(json.dumps(found, indent=1))
    front = best(study)
    names = ["trials.csv", "study.json"]
    for trial in front:
        name = "best.yaml" if len(front) == 1 else f"best-trial-{trial.number}.yaml"
        (folder / name).write_text(recipe_text(study, search, trial))
        names.append(name)
    return names + write_plots(study, folder)


def export(study: optuna.Study, dest: str) -> list[str]:
    """Write a study's files to a folder at any storage URL; their names.

    Raises:
        StorageError: it can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="i2idist-") as name:
        names = write_files(study, Path(name))
        for file in names:
            storage.write_bytes(storage.join(dest, file), (Path(name) / file).read_bytes())
    return names
