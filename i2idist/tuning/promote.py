"""The best point of a study, trained at full length and registered."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from i2idist import launch
from i2idist.errors import RunError
from i2idist.launch.run_folder import runs_root
from i2idist.launch.runs import Result
from i2idist.tracking.settings import resolve_uri
from i2idist.train.loop import Event
from i2idist.tuning.results import recipe_of
from i2idist.tuning.storage import storage_url
from i2idist.tuning.study import ROOT, load


@dataclass(frozen=True, kw_only=True)
class Promoted:
    """What came of it.

    Attributes:
        trial: the trial's number.
        result: how its training ended.
        model: the registered model.
        version: its version.
        tracking_uri: where it is registered.
    """

    trial: int
    result: Result
    model: str
    version: str
    tracking_uri: str


def promote(
    study: str,
    *,
    trial: int | None = None,
    model: str | None = None,
    run: str | None = None,
    storage: str | None = None,
    root: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    say: Callable[[str], None] = lambda message: None,
) -> Promoted:
    """Train a trial's recipe, without what trials alone have, and register its model as the candidate.

    Args:
        study: the study's name.
        trial: which; None: the best.
        model: the registered model's name; None: the study's.
        run: the run's name: created, or continued; None: `STUDY-best-TRIAL`.
        storage: of the study; None: I2IDIST_STUDIES, or a SQLite file beside the runs.
        root: where the run will be; None: where the study's runs are.
        overrides: values by dotted key.
        on_event: called with each event of training.
        say: told what happens.

    Raises:
        StudyError: no such study or trial, or several are best.
        RunError: the training was stopped before its end.
        I2IError: what training or registering raises.
    """
    from i2idist.tracking.place import tracking_uri
    from i2idist.tracking.registry import check_model_name, register

    found = load(storage_url(storage, root), study)
    model = model or study
    check_model_name(model)
    best, experiment = recipe_of(found, trial)
    place = runs_root(root or found.user_attrs[ROOT])
    uri = tracking_uri(resolve_uri(experiment.tracking, place), place)
    name = run or f"{study}-best-{best.number}"
    result = launch.train(
        experiment, overrides=overrides, run=name, root=place, study=study, on_event=on_event, say=say
    )
    if result.stopped == "stop":
        raise RunError(
            f"The run '{name}' was stopped at {result.images} images, so nothing was registered: do the same to go on."
        )
    with tempfile.TemporaryDirectory(prefix="i2idist-") as folder:
        launch.export(name, folder, root=place)
        version = register(folder, model, alias="candidate", uri=uri)
    return Promoted(trial=best.number, result=result, model=model, version=version, tracking_uri=uri)
