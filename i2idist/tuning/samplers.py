"""Optuna's samplers, pruners and distributions, made of a search's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler

from i2idist.tuning.search import Pruner, Sampler
from i2idist.tuning.space import Parameter


def make_sampler(settings: Sampler, trials: int) -> BaseSampler:
    """The sampler. A grid's points are queued when the study is made, so nothing is left to draw.

    Args:
        settings: which.
        trials: in the study already; with a seed, a driver that starts again draws other points than before.
    """
    options: dict[str, Any] = {"seed": None if settings.seed is None else settings.seed + 1009 * trials}
    for name, value in _OPTIONS[settings.name].items():
        if getattr(settings, value) is not None:
            options[name] = getattr(settings, value)
    match settings.name:
        case "tpe":
            return TPESampler(**options)
        case "cmaes":
            return CmaEsSampler(**options, warn_independent_sampling=False)
        case "nsga2":
            return NSGAIISampler(**options)
        case "nsga3":
            return NSGAIIISampler(**options)
        case "random" | "grid":
            return RandomSampler(**options)


_OPTIONS = {
    "tpe": {"n_startup_trials": "startup_trials"},
    "cmaes": {"n_startup_trials": "startup_trials", "popsize": "population_size"},
    "nsga2": {"population_size": "population_size"},
    "nsga3": {"population_size": "population_size"},
    "random": {},
    "grid": {},
}
"""Optuna's names of a sampler's options, and ours."""


def make_pruner(settings: Pruner, evaluations: int) -> BasePruner:
    """The pruner; its steps are the numbers of a trial's evaluations, from 1."""
    match settings.name:
        case "none":
            return NopPruner()
        case "median":
            return MedianPruner(settings.startup_trials, settings.warmup_evaluations + 1)
        case "halving":
            return SuccessiveHalvingPruner(min_resource=1, reduction_factor=settings.reduction_factor)
        case "hyperband":
            return HyperbandPruner(1, evaluations, settings.reduction_factor)


def suggest(trial: optuna.Trial, key: str, parameter: Parameter) -> Any:
    """The trial's value of a key."""
    if parameter.type == "categorical":
        return trial.suggest_categorical(key, parameter.choices)
    assert parameter.low is not None and parameter.high is not None
    if parameter.type == "int":
        step = round(parameter.step or 1)
        return trial.suggest_int(key, round(parameter.low), round(parameter.high), step=step, log=parameter.log)
    return trial.suggest_float(key, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


def suggest_all(trial: optuna.Trial, space: Mapping[str, Parameter]) -> dict[str, Any]:
    """The trial's point: the keys whose conditions hold."""
    params: dict[str, Any] = {}
    for key, parameter in space.items():
        if parameter.is_active(params):
            params[key] = suggest(trial, key, parameter)
    return params
