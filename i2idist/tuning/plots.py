"""A study's plots, drawn by Optuna: pictures, and one page on which they can be turned and read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
from optuna import visualization
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

PAGE = "plots.html"
_INCHES = (8.0, 5.0)
_DPI = 110

Plot = Callable[[ModuleType], Any]
"""Draws by `optuna.visualization`, or by its `matplotlib`: they have the same functions."""


def write_plots(study: optuna.Study, folder: Path) -> list[str]:
    """Draw what the trials so far allow; the names of the files."""
    wanted = list(_plots(study))
    if not wanted:
        return []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"optuna\.")  # experimental; few trials; a single point
        warnings.filterwarnings("ignore", message="PedAnova|Target and region|Some regimes|Attempting to set identical")
        names = [_picture(plot, folder / f"{name}.png") for name, plot in wanted]
        return [*names, _page(study.study_name, wanted, folder / PAGE)]


def _plots(study: optuna.Study) -> Iterator[tuple[str, Plot]]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return
    metrics = study.metric_names or [str(place) for place in range(len(study.directions))]
    differing = len({tuple(trial.params.values()) for trial in complete}) > 1
    for place, metric in enumerate(metrics):
        stem = f"-{metric.replace('/', '-').replace(':', '-')}" if len(metrics) > 1 else ""
        of, low = _target(study, place, metric)
        yield f"history{stem}", partial(_draw, "plot_optimization_history", study, **of)
        yield f"slice{stem}", partial(_draw, "plot_slice", study, **of)
        if differing:
            yield f"importances{stem}", partial(_draw, "plot_param_importances", study, **low)
            yield f"parallel{stem}", partial(_draw, "plot_parallel_coordinate", study, **of)
    if len(metrics) in (2, 3):
        yield "front", partial(_draw, "plot_pareto_front", study)
    if any(trial.intermediate_values for trial in complete):
        yield "evaluations", partial(_draw, "plot_intermediate_values", study)
    yield "timeline", partial(_draw, "plot_timeline", study)


def _target(study: optuna.Study, place: int, metric: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Which objective is drawn; and for importances, which Optuna tells for low values, the same with its sign."""
    of: dict[str, Any] = {"target_name": metric}
    if len(study.directions) == 1:
        return of, of
    sign = -1 if study.directions[place] == StudyDirection.MAXIMIZE else 1
    return {**of, "target": partial(_value, place, 1)}, {**of, "target": partial(_value, place, sign)}


def _value(place: int, sign: int, trial: FrozenTrial) -> float:
    return sign * float(trial.values[place])


def _draw(function: str, study: optuna.Study, drawn: ModuleType, **options: Any) -> Any:
    return getattr(drawn, function)(study, **options)  # Optuna loads the module when it is asked


def _picture(plot: Plot, path: Path) -> str:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawn

    found = plot(drawn)
    figure = (found.flat[0] if hasattr(found, "flat") else found).figure
    figure.set_size_inches(*_INCHES)
    figure.savefig(path, dpi=_DPI, bbox_inches="tight")
    pyplot.close(figure)
    return path.name


def _page(title: str, wanted: list[tuple[str, Plot]], path: Path) -> str:
    """One file that needs no network: plotly's own code is in it, once."""
    parts = [
        plot(visualization).to_html(full_html=False, include_plotlyjs=number == 0, default_height="520px")
        for number, (_, plot) in enumerate(wanted)
    ]
    head = f'<!doctype html><html><head><meta charset="utf-8"><title>{title}</title></head>'
    path.write_text(f"{head}<body>\n{''.join(parts)}\n</body></html>")
    return path.name
