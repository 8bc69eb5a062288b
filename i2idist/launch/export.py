"""A run's model: the weights of its best or newest checkpoint, saved as a model folder."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal

import torch

from i2idist import model
from i2idist.errors import RunError
from i2idist.launch.run_folder import RunFolder, runs_root
from i2idist.launch.worker import build, open_readers
from i2idist.train.checkpoint import Checkpoints, State


def export(
    run: str, dest: str, *, root: str | None = None, which: Literal["best", "newest"] = "best"
) -> model.ModelCard:
    """Save a run's translator, whether the run has ended or not; a model that is at `dest` is replaced.

    Args:
        run: the run's name.
        dest: the model folder, at any storage URL; for `i2idist.load`.
        root: where runs are; None: I2IDIST_RUNS, or ./runs.
        which: the checkpoint: the best by the run's criterion, or the newest. Without a criterion they are the same.

    Raises:
        RunError: there is no such run, or it has no checkpoint yet.
        CheckpointError: the checkpoint is damaged.
        I2IError: what the run's data or method raise.
    """
    folder = RunFolder.existing(runs_root(root), run)
    checkpoints = Checkpoints(folder.checkpoints)
    names = checkpoints.names()
    if not names:
        raise RunError(f"The run '{run}' has no checkpoint yet: train it first, with `i2idist resume {run}`.")
    newest = checkpoints.load(names[-1])
    best = newest.rest.get("best", {}).get("checkpoint")
    name = best if which == "best" and best else names[-1]
    state = newest if name == names[-1] else checkpoints.load(name)
    experiment = folder.experiment()
    with ExitStack() as stack, torch.random.fork_rng(devices=[]):
        reader, _ = open_readers(experiment, 0, 1, stack)
        method, domains, data = build(experiment, reader, from_sources=False), reader.domains, reader.digest
    return model.save(
        dest,
        method,
        method_name=experiment.method.name,
        domains=domains,
        weights=model.weights_of(method, state.tensors),
        lineage={"dataset_digest": data, "checkpoint": name, **_lineage(folder, newest)},
    )


def _lineage(folder: RunFolder, state: State) -> dict[str, Any]:
    """Where the weights came from, as far as the run's records say."""
    launches = folder.record()["launches"]
    known = {
        "run": folder.name,
        "run_url": folder.url,
        "experiment_digest": folder.experiment().digest,
        "code": launches[-1]["facts"].get("code") if launches else None,
        "mlflow_run_id": _mlflow_run_id(folder, state),
    }
    return {key: value for key, value in known.items() if value is not None}


def _mlflow_run_id(folder: RunFolder, state: State) -> str | None:
    """The result names it where the run ended, else the checkpoint does."""
    result = folder.result() or {}
    tracked = state.rest.get("tracking") or {}
    found = result.get("mlflow_run_id") or tracked.get("run_id")
    return None if found is None else str(found)
