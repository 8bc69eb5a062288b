"""The Ray launcher: a group of Ray Train V2 workers, on a Ray of our own or, with RAY_ADDRESS, on a cluster.

Ray decides who works, and starts workers again when one dies; checkpoints, events and the run folder are ours. Workers
who leave a machine that is taken away end without a result, and others go on: that is no failure. A deliberate error,
which no restart would mend, ends the run at once; any other is retried from the newest checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable

from i2idist.experiment import Resources
from i2idist.launch.cluster import cluster, environment
from i2idist.launch.run_folder import RunFolder
from i2idist.launch.signals import Interruption
from i2idist.launch.worker import Job
from i2idist.launch.worker_group import group_at
from i2idist.train.loop import Event

_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",  # how soon a dead worker is noticed; Ray's default is 2 s
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # how soon a draining node is noticed; Ray's default is 5 s
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in workers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # CPU workers keep seeing CUDA_VISIBLE_DEVICES as it was
}


def run(
    job: Job,
    resources: Resources,
    tell: Callable[[Event], None],
    interruption: Interruption,
    say: Callable[[str], None],
) -> None:
    """Train `job` on Ray workers.

    Args:
        job: the run.
        resources: workers, threads, device and failures allowed; the threads are resolved.
        tell: called with each event, in this process.
        interruption: stops the run with a checkpoint.
        say: told what a person waits for.

    Raises:
        I2IError: what the training raised, or a `RunError` where workers failed too often.
    """
    folder = RunFolder(job.root, job.name)
    with environment(_ENVIRONMENT), cluster(resources, say), interruption:
        while not _ended(job, resources, folder, tell, interruption):
            say("A machine is taken away: the workers left with a checkpoint, and others go on from there.")


def _ended(
    job: Job, resources: Resources, folder: RunFolder, tell: Callable[[Event], None], interruption: Interruption
) -> bool:
    """Follow a training; whether the run has ended with it, or else its workers left."""
    asked = False
    with group_at(job, resources) as group:
        while group.works(tell):
            if interruption() and not asked:
                folder.request_stop()
                asked = True
        return group.ended(folder)
