"""A study's plots, drawn by Optuna: pictures, and one page on which they can be turned and read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna import visualization
from optuna.study import StudyDirection
from optuna.trial import TrialState

PAGE = "plots.html"
_INCHES = (8.0, 5.0)
_DPI = 110

Plot = Callable[[Any], Any]
"""Draws by `optuna.visualization`, or by its `matplotlib`: they have the same functions."""


def write_plots(study: optuna.Study, folder: Path) -> list[str]:
    """Draw what the trials so far allow; the names of the files."""
    wanted = list(_plots(study))
    if not wanted:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes", category=UserWarning)
        names = [_picture(plot, folder / f"{name}.png") for name, plot in wanted]
        return [*names, _page(study.study_name, wanted, folder / PAGE)]


def _plots(study: optuna.Study) -> Iterator[tuple[str, Plot]]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return
    metrics = study.metric_names or [str(place) for place in range(len(study.directions))]
    several = len(metrics) > 1
    differing = len({tuple(trial.params.values()) for trial in complete}) > 1
    for place, metric in enumerate(metrics):
        stem = f"-{_plain(metric)}" if several else ""
        of: dict[str, Any] = {"target_name": metric}
        low = dict(of)  # Optuna asks which keys matter for low values
        if several:
            sign = -1 if study.directions[place] == StudyDirection.MAXIMIZE else 1
            of["target"] = lambda trial, place=place: trial.values[place]
            low["target"] = lambda trial, place=place, sign=sign: sign * trial.values[place]
        yield f"history{stem}", lambda v, of=of: v.plot_optimization_history(study, **of)
        yield f"slice{stem}", lambda v, of=of: v.plot_slice(study, **of)
        if differing:
            yield f"importances{stem}", lambda v, low=low: v.plot_param_importances(study, **low)
            yield f"parallel{stem}", lambda v, of=of: v.plot_parallel_coordinate(study, **of)
    if len(metrics) in (2, 3):
        yield "front", lambda v: v.plot_pareto_front(study)
    if any(trial.intermediate_values for trial in complete):
        yield "evaluations", lambda v: v.plot_intermediate_values(study)
    yield "timeline", lambda v: v.plot_timeline(study)


def _plain(metric: str) -> str:
    return metric.replace("/", "-").replace(":", "-")


def _picture(plot: Plot, path: Path) -> str:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawn

    found = plot(drawn)
    axes = found.flat[0] if hasattr(found, "flat") else found
    figure = axes.figure
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
    body = "\n".join(parts)
    path.write_text(
        f'<!doctype html><html><head><meta charset="utf-8"><title>{title}</title></head><body>\n{body}\n</body></html>'
    )
    return path.name
