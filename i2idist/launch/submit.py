"""Submitting to a Ray cluster, and what becomes of it there: list, look up, stop. The catalog is kept up to date."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from i2idist.catalog import hooks
from i2idist.errors import StorageError, SubmissionError, nearest
from i2idist.launch.head import Head, Job
from i2idist.launch.run_folder import RunFolder, runs_root
from i2idist.launch.submission import ENTRYPOINT, Submission

Say = Callable[[str], None]
How = Literal["checkpoint", "done", "ray"]
_RAY_STOPS_S = 30.0


def submit(head: Head, submission: Submission, *, ship_code: bool = False, say: Say = lambda message: None) -> None:
    """Send a submission, and note it in the catalog.

    Args:
        head: where to.
        submission: what.
        ship_code: send the package too, to run before what is installed on the cluster.
        say: told when the catalog can't be used.

    Raises:
        SubmissionError: the id is taken, or the cluster refuses.
    """
    if head.job(submission.id):
        raise SubmissionError(f"The head at {head.address} has a job '{submission.id}' already: give another id.")
    experiment = submission.experiment
    known = {
        "submission_id": submission.id,
        "address": head.address,
        "run_url": submission.run_url,
        "experiment": experiment and experiment.as_dict(),
    }
    with (
        hooks.submission(submission.verb, submission.name, root=submission.root, say=say, **known),
        tempfile.TemporaryDirectory(prefix="i2idist-submit-") as folder,
    ):
        head.submit(submission.id, ENTRYPOINT, submission.pack(Path(folder), ship_code), submission.metadata())


def listed(head: Head, *, say: Say = lambda message: None) -> list[dict[str, Any]]:
    """What is known of the cluster's jobs, JSON-able, the newest first.

    That is the cluster's word and the rows in catalogs, which are brought up to date; jobs that catalogs know and the
    cluster doesn't come last.
    """
    jobs, rows = head.jobs(), dict[str, dict[str, Any]]()
    states = {job.id: (job.state, job.error) for job in jobs}
    for root in dict.fromkeys([*(job.about["root"] for job in jobs), runs_root()]):
        rows |= hooks.submissions(states, head.address, root=root, say=say)
    gone = [row for id, row in rows.items() if id not in states]
    gone.sort(key=lambda row: str(row["created"]), reverse=True)
    return [_known(head, job, rows.get(job.id)) for job in jobs] + [_unknown(row) for row in gone]


def _known(head: Head, job: Job, row: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "submission_id": job.id,
        "kind": job.about["verb"],
        "name": job.about["name"],
        "state": row["state"] if row else job.state,
        "exit_code": job.exit_code,
        "error": (row and row["error"]) or job.error,
        "started": job.started and job.started.isoformat(timespec="seconds"),
        "ended": job.ended and job.ended.isoformat(timespec="seconds"),
        "address": head.address,
        "run_url": job.about.get("run_url"),
        "mlflow_run_id": row and row["mlflow_run_id"],
        "code_revision": job.about.get("code_revision"),
    }


def _unknown(row: dict[str, Any]) -> dict[str, Any]:
    same = ("submission_id", "kind", "name", "state", "error", "address", "run_url", "mlflow_run_id")
    times = {"started": row["created"], "ended": row["updated"]}
    return {**{key: row[key] for key in same}, **times, "exit_code": None, "code_revision": None}


def status(head: Head, name: str, *, say: Say = lambda message: None) -> dict[str, Any]:
    """What is known of the job of a submission id, or of the newest of a run's name; see `listed`.

    Raises:
        SubmissionError: nothing; names the nearest.
    """
    everything = listed(head, say=say)
    found = next((one for one in everything if name in (one["submission_id"], one["name"])), None)
    if found:
        return found
    known = {text for one in everything for text in (one["submission_id"], one["name"])}
    raise SubmissionError(f"The head at {head.address} has no job '{name}'.{nearest(name, known)}")


def find(head: Head, name: str, *, say: Say = lambda message: None) -> Job:
    """The job that a name or submission id means, as `status`, where the cluster still knows it.

    Raises:
        SubmissionError: it doesn't.
    """
    found = status(head, name, say=say)
    job = head.job(found["submission_id"])
    if job:
        return job
    raise SubmissionError(
        f"The head at {head.address} doesn't know the job '{name}' any more: it is {found['state']}. A run that was "
        "lost goes on with: i2idist submit resume NAME."
    )


def stop(head: Head, job: Job, *, grace_s: float = 60.0, say: Say = lambda message: None) -> How:
    """Stop a job: a training is asked to stop with a checkpoint first, and ended by Ray if it doesn't.

    Args:
        head: its cluster.
        job: the job.
        grace_s: how long a training is given.
        say: told what happens.

    Returns:
        `checkpoint`: it stopped with one; `done`: it had come to its end; `ray`: Ray ended it.

    Raises:
        SubmissionError: it has ended already, fails meanwhile, or doesn't end.
    """
    if job.over:
        raise SubmissionError(f"The job '{job.id}' has ended ({job.state}), so there is nothing to stop.")
    folder = _run_folder(job, say)
    if folder and grace_s > 0:
        say(f"Asked {folder.name} to stop with a checkpoint; waiting up to {grace_s:.0f} s.")
        ended = head.wait(job.id, grace_s, lambda: _ask(folder))
        if ended.over:
            return _came_to(folder, ended)
    head.stop(job.id)
    if not head.wait(job.id, _RAY_STOPS_S).over:
        raise SubmissionError(f"Ray was told to end the job '{job.id}', and it still runs after {_RAY_STOPS_S:.0f} s.")
    return "ray"


def _came_to(folder: RunFolder, job: Job) -> How:
    """How a job ended that was asked to stop."""
    result = folder.result()
    if job.state != "done" or result is None:
        raise SubmissionError(f"The job '{job.id}' ended by itself before it stopped ({job.state}): {job.error}")
    return "checkpoint" if result["stopped"] == "stop" else "done"


def _run_folder(job: Job, say: Say) -> RunFolder | None:
    """The folder of a job's run, where it has one that is seen from here."""
    url = job.about.get("run_url")
    if url is None:
        return None
    root, _, name = url.rpartition("/")
    folder = RunFolder(root, name)
    try:
        if folder.exists():
            hooks.stopping(folder.url, root=root, say=say)
            return folder
        say(f"There is no run folder {url} as seen from here, or not yet: it can't be asked to stop with a checkpoint.")
    except StorageError as error:
        say(f"It can't be asked to stop with a checkpoint: {error}")
    return None


def _ask(folder: RunFolder) -> None:
    """Ask again where a launch that just began has cleared the request."""
    if folder.result() is None and not folder.stop_requested():
        folder.request_stop()
