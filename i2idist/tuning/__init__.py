"""Hyperparameter search: Optuna asks and is told, trainings answer. The one place that imports Optuna."""

from i2idist.tuning.driver import Summary, tune
from i2idist.tuning.promote import Promoted, promote
from i2idist.tuning.search import Search, read_search, searches

__all__ = ["Promoted", "Search", "Summary", "promote", "read_search", "searches", "tune"]
