import dataclasses
import subprocess
import sys
import threading
import time

import pytest

from i2idist import storage
from i2idist.errors import LeaseError
from i2idist.launch import lease as module
from i2idist.launch.lease import Lease, Record, Watch, newest
from i2idist.launch.processes import Process


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "run" / "lease")


@pytest.fixture
def elsewhere():
    """A live process of this host."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield Process.of(process.pid)
    process.kill()
    process.wait()


def acquire(url, session="mine", say=lambda message: None, stale_s=60.0):
    return Lease.acquire(url, session, Process.current(), say, stale_s)


def held(url, number, holder, session="theirs", driver=None, **more):
    record = Record("token", session, driver or holder, holder, **more)
    storage.write_bytes(f"{url}/{number:08d}.json", record.dump())
    return record


def dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    found = Process.of(process.pid)
    process.wait()
    return found


def test_taken_given_back_and_taken_again(url):
    assert newest(url) == (0, None)
    first = acquire(url)
    assert not newest(url)[1].free()
    first.release()
    assert newest(url)[1].free()
    acquire(url).release()
    assert storage.list_dir(url) == ["00000002.json"]


def test_a_live_process_keeps_it(url, elsewhere):
    held(url, 4, elsewhere)
    with pytest.raises(LeaseError, match=f"'run' is being written by process {elsewhere.pid} on .*i2idist stop run"):
        acquire(url)


def test_a_dead_process_loses_it_at_once(url):
    held(url, 4, dead())
    begun = time.monotonic()
    lease = acquire(url, say=pytest.fail)
    assert time.monotonic() - begun < 1
    assert newest(url)[0] == 5
    lease.release()


def test_a_reused_process_id_is_another_process(url, elsewhere):
    held(url, 1, dataclasses.replace(elsewhere, started=elsewhere.started - 100))
    acquire(url, say=pytest.fail).release()


def test_a_silent_holder_elsewhere_loses_it_after_a_while(url, elsewhere):
    held(url, 1, dataclasses.replace(elsewhere, host="faraway/boot/pid"))
    said = []
    begun = time.monotonic()
    acquire(url, say=said.append, stale_s=1.2).release()
    assert 1.2 <= time.monotonic() - begun < 4
    assert said == [f"Waiting for process {elsewhere.pid} on faraway to end, or to show no sign of life for 1 s ..."]


def test_a_beating_holder_elsewhere_keeps_it(url, elsewhere):
    record = held(url, 1, dataclasses.replace(elsewhere, host="faraway/boot/pid"))
    timer = threading.Timer(0.7, lambda: held(url, 1, record.holder, beat=1))
    timer.start()
    with pytest.raises(LeaseError, match="on faraway"):
        acquire(url, stale_s=30)


def test_a_worker_of_this_session_or_of_a_dead_driver_is_waited_for(url, elsewhere):
    for more in ({"session": "mine"}, {"driver": dead()}):
        number = newest(url)[0] + 1
        record = held(url, number, elsewhere, **more)
        timer = threading.Timer(
            0.7,
            lambda r=record, n=number: storage.write_bytes(
                f"{url}/{n:08d}.json", dataclasses.replace(r, released=True).dump()
            ),
        )
        timer.start()
        said = []
        acquire(url, say=said.append).release()
        assert len(said) == 1


def test_a_silent_worker_of_this_session_elsewhere_is_waited_for_less_long(url, elsewhere, monkeypatch):
    """As on a host that went: Ray has ended it, and can't tell whether it hears that."""
    monkeypatch.setattr(module, "ENDING_S", 1.0)
    held(url, 1, dataclasses.replace(elsewhere, host="faraway/boot/pid"), session="mine")
    said, begun = [], time.monotonic()
    acquire(url, say=said.append).release()
    assert 1.0 <= time.monotonic() - begun < 4
    assert said[0].endswith("for 1 s ...")


def test_silence_before_one_looks_counts_for_a_worker_of_this_session(url, elsewhere):
    faraway = dataclasses.replace(elsewhere, host="faraway/boot/pid")
    held(url, 1, faraway, session="mine", at=time.time() - module.ENDING_S - 1)
    acquire(url, say=pytest.fail).release()
    held(url, 9, faraway, at=time.time() - 3600)
    begun = time.monotonic()
    acquire(url, stale_s=1.0).release()
    assert time.monotonic() - begun >= 1.0, "whom nobody ends is given the whole time, whatever its clock says"


def test_a_launchs_first_worker_takes_it_from_the_driver(url):
    of_driver = acquire(url)
    of_worker = acquire(url, say=pytest.fail)
    with pytest.raises(LeaseError, match="taken over"):
        of_driver.confirm()
    of_driver.release()
    assert storage.list_dir(url) == ["00000002.json"]
    assert not newest(url)[1].released
    of_worker.confirm()
    of_worker.release()


def test_a_bystander_sees_when_nobody_writes(url, elsewhere):
    assert Watch(url).over()
    faraway = dataclasses.replace(elsewhere, host="faraway/boot/pid")
    held(url, 1, faraway)
    watch = Watch(url, stale_s=0.3)
    assert not watch.over()
    time.sleep(0.2)
    held(url, 1, faraway, beat=1)
    assert not watch.over()
    time.sleep(0.4)
    assert watch.over()
    for number, (holder, more, over) in enumerate(
        [
            (elsewhere, {}, False),
            (elsewhere, {"released": True}, True),
            (dead(), {}, True),
            (dead(), {"driver": elsewhere}, False),  # Ray may be starting another worker
        ]
    ):
        held(url, number + 2, holder, **more)
        assert Watch(url).over() is over


def test_one_of_many_gets_it(url):
    held(url, 1, dead())
    leases, errors = [], []

    def attempt():
        try:
            leases.append(acquire(url, session=threading.current_thread().name))
        except LeaseError as error:
            errors.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(leases), len(errors)) == (1, 7)
    leases[0].release()


def test_a_lost_lease_stops_its_holder(url, elsewhere, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
    lease = acquire(url)
    time.sleep(0.3)
    assert newest(url)[1].beat >= 2
    lease.check()
    held(url, 2, elsewhere)
    time.sleep(0.3)
    with pytest.raises(LeaseError, match=f"taken over by process {elsewhere.pid}"):
        lease.check()
    lease.release()
    assert newest(url)[1].holder == elsewhere
    assert not newest(url)[1].released
