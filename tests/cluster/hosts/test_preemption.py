"""A worker, or a host, that is told to go within a grace period: it leaves with a checkpoint, and others go on."""

import signal
import time

import pytest

from tests.cluster.hosts.support import first_and_other, signal_worker, until

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]

AT = 132


def left_without_loss(training):
    """It left at a step, and went on from that very step: nothing was computed twice. The moment of leaving."""
    events = training.recorded()
    left = [event for event in events if event["event"] == "left"]
    resumed = [event for event in events if event["event"] == "resumed"]
    assert len(left) == len(resumed) == 1
    assert left[0]["images"] == resumed[0]["images"] >= AT
    return left[0]["time"]


@pytest.mark.parametrize("which", ["rank 0", "another rank"])
def test_a_worker_that_is_told_to_end_leaves_with_a_checkpoint(train, as_left, report, which):
    training = train("told")
    training.at(AT)
    first, other = first_and_other(training)
    since = signal_worker(training.cluster, first if which == "rank 0" else other, signal.SIGTERM)
    as_left(training)
    seconds = training.stepping_again(since)
    report(f"worker told to end (SIGTERM), {which}", f"{seconds:.1f} s", "-", "signal to the next step; no step lost")


def test_a_host_that_is_told_to_end_is_left_with_a_checkpoint(train, as_left, report):
    training = train("drained")
    training.at(AT)
    cluster = training.cluster
    (host, _), _ = first_and_other(training)
    since = time.time()
    cluster.preempt(host)
    as_left(training)
    seconds, left_s = training.stepping_again(since), left_without_loss(training) - since
    until(lambda: not next(s for s in cluster.states() if s.name == host).running, 60, "the host's end")
    report("host told to end: left with a checkpoint", f"{left_s:.1f} s", "<= 30 s", "SIGTERM to the checkpoint")
    report("host told to end: stepping elsewhere", f"{seconds:.1f} s", "-", "SIGTERM to the next step; no step lost")
    assert left_s < 30


@pytest.fixture
def as_left(undisturbed):
    """The run ended as an undisturbed one, with one checkpoint more."""
    from tests.cluster.hosts.support import CHECKPOINT_EVERY, TOTAL, complete

    def check(training):
        assert training.end() == undisturbed["sha256"]
        left_without_loss(training)
        left = next(event["images"] for event in training.recorded() if event["event"] == "left")
        complete(training, TOTAL // CHECKPOINT_EVERY + (left % CHECKPOINT_EVERY != 0))
        assert training.launches() == [2, 2]

    return check
