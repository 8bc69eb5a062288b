"""Hosts, workers, drivers, wires and services that go, under a training. It ends as if they hadn't.

Two workers on three hosts: where one goes there is a spare, so the parameters are equal bit for bit. Times are taken
from the fault to the first step that workers took after it.
"""

import time

import pytest

from tests.cluster.hosts.support import CHECKPOINT_EVERY, SHARD_BYTES, first_and_other, outage, signal_worker, until

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]

AT = 132
"""Images at which faults come: three checkpoints have been written, and the fourth is some steps away."""
AWAY_S = 60


@pytest.mark.parametrize("which", ["rank 0", "another rank"])
def test_a_worker_process_is_killed(train, as_undisturbed, report, which):
    training = train("worker")
    training.at(AT)
    first, other = first_and_other(training)
    since = signal_worker(training.cluster, first if which == "rank 0" else other)
    as_undisturbed(training)
    seconds = training.stepping_again(since)
    report(f"worker process killed, {which}", f"{seconds:.1f} s", "<= 45 s", "kill -9 to the next step")
    assert seconds <= 45


@pytest.mark.parametrize("which", ["rank 0", "another rank"])
def test_a_host_is_killed(train, as_undisturbed, report, which):
    training = train("host")
    training.at(AT)
    first, other = first_and_other(training)
    host = (first if which == "rank 0" else other)[0]
    since = time.time()
    training.cluster.kill(host)
    as_undisturbed(training)
    seconds = training.stepping_again(since)
    report(f"host switched off, {which}'s", f"{seconds:.1f} s", "<= 60 s", "power cut to the next step on a spare host")
    assert seconds <= 60


def test_a_link_is_cut_for_30_s(train, as_undisturbed, report):
    training = train("link")
    training.at(AT)
    cluster = training.cluster
    (host, _), _ = first_and_other(training)
    starts = cluster.unit(host).starts
    since = time.time()
    cluster.cut(host)
    time.sleep(30)
    cluster.mend(host)
    mended = time.monotonic()
    address = cluster.plan().address(host)
    until(
        lambda: cluster.unit(host).starts > starts and address in (cluster.in_ray() or ()), 120, "the cut host in Ray"
    )
    back_s = time.monotonic() - mended
    as_undisturbed(training)
    seconds = training.stepping_again(since)
    report("link of rank 0's host cut for 30 s", f"{seconds:.1f} s", "<= 60 s", "cut to the next step on a spare host")
    report("host back in Ray after its link was cut", f"{back_s:.1f} s", "-", "from the link's return")
    assert seconds <= 60


def test_a_host_is_added(train, near, report):
    training = train("added", resources={"num_workers": [1, 4]}, method={"pause_s": 2.0})
    training.at(40)
    since = time.time()
    name = training.cluster.add()
    try:
        worst = near(training)
        seconds = training.stepping_again(since)
    finally:
        training.cluster.kill(name)
    assert training.launches() == [3, 4]
    report("host added: training on it as well", f"{seconds:.1f} s", "-", "`add` to the next step; Ray looks each 60 s")
    report("parameters of 3, then 4 workers, from one process's", f"{worst:.1e}", "<= 1e-9", "100 steps, float64")


@pytest.mark.parametrize("service", ["s3", "mlflow", "postgres"])
def test_a_service_is_away_for_60_s(train, as_undisturbed, service):
    training = train(f"without-{service}", method={"pause_s": 1.0})
    training.at(AT)
    outage(training.cluster, service, AWAY_S)
    assert training.process.poll() is None, "it ended before the service was back: it wasn't disturbed"
    as_undisturbed(training)
    assert training.launches() == [2]


def test_a_host_s_cache_disk_is_full(train, as_undisturbed):
    training = train("full")
    training.at(AT)
    cluster = training.cluster
    (host, _), _ = first_and_other(training)
    fill = "cat /dev/zero > ~/.cache/fill; df --output=avail -B1 ~/.cache | tail -n 1"
    done = cluster.exec(host, ["sh", "-c", fill], capture_output=True, text=True)
    assert "No space left" in done.stderr and int(done.stdout) < 3 * SHARD_BYTES, "older shards may have made room"
    as_undisturbed(training)
    assert training.launches() == [2]


def test_the_driver_is_killed(train, as_undisturbed, report):
    import psutil

    training = train("driver", driven=True)
    training.at(AT)
    unit = training.cluster.unit(f"driver {training.name}")
    driver = psutil.Process(unit.pid).children()[0]
    since = time.time()
    driver.kill()
    as_undisturbed(training)
    assert training.cluster.unit(f"driver {training.name}").starts == 2
    seconds = training.stepping_again(since)
    report("driver killed, started again by the supervisor", f"{seconds:.1f} s", "-", "kill -9 to the next step")
    assert training.launches() == [2, 2]
    resumed = [event["images"] for event in training.recorded() if event["event"] == "resumed"]
    assert resumed[0] % CHECKPOINT_EVERY == 0
