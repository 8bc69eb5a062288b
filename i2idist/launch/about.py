"""What a run's page in MLflow says about it."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from typing import Any

from i2idist.data.manifest import Manifest
from i2idist.experiment import Experiment, flatten
from i2idist.launch.run_folder import RunFolder
from i2idist.tracking import About


def about_run(
    folder: RunFolder, experiment: Experiment, facts: Mapping[str, Any], manifest: Manifest, data_url: str
) -> About:
    """The run, for MLflow.

    Args:
        folder: where it is.
        experiment: the resolved experiment.
        facts: what it is launched on, see `launch.facts`.
        manifest: of its data.
        data_url: where the data were found.
    """
    tags = {f"i2idist.{key}": value for key, value in flatten(facts).items() if value is not None} | {
        "i2idist.run": folder.url,
        "i2idist.experiment_sha256": experiment.digest,
        "i2idist.data_sha256": manifest.digest,
        "mlflow.source.name": "i2idist",
        "mlflow.source.type": "JOB",
        "mlflow.user": _user(),
        "mlflow.note.content": _note(experiment, manifest, folder),
    }
    if facts["code"]:
        tags["mlflow.source.git.commit"] = facts["code"].removesuffix("+changes")
    if experiment.init_from:
        tags["i2idist.init_from"] = f"{experiment.init_from.url} sha256 {experiment.init_from.sha256}"
    params = {key: value for key, value in flatten(experiment.as_dict()).items() if not key.startswith("tracking.")}
    return About(
        name=folder.name,
        params=params,
        tags=tags,
        experiment=experiment.as_yaml(),
        dataset=_dataset(manifest, experiment, data_url),
    )


def _dataset(manifest: Manifest, experiment: Experiment, data_url: str) -> dict[str, Any]:
    splits = {split: {"+".join(pool.domains): pool.count for pool in pools} for split, pools in manifest.splits.items()}
    given = experiment.data.url
    return {
        "name": manifest.name,
        "digest": manifest.digest,
        "url": given if given.startswith("generated:") else data_url,
        "role": manifest.role,
        "domains": {domain.name: {"channels": domain.channels, "size": domain.size} for domain in manifest.domains},
        "samples": splits,
    }


def _note(experiment: Experiment, manifest: Manifest, folder: RunFolder) -> str:
    train = experiment.train
    return (
        f"**{experiment.method.name}** on **{manifest.name}** ({manifest.role}), {train.total_images:,} images in "
        f"batches of {train.batch_size}. Steps are images drawn by all workers together.\n\n"
        f"Run folder: `{folder.url}`. Go on with it: `i2idist resume {folder.name}`."
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
