"""A tracker by itself, over SQLite files, without a training or a server."""

import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback

import pytest

from i2idist import storage
from i2idist.errors import LeaseError, TrackingError
from i2idist.tracking import About, Tracking, deliver_rest, delivery, start_tracking
from i2idist.tracking.journal import left_behind
from i2idist.tracking.place import client_of, experiment_id, mlflow_errors
from i2idist.tracking.registry import promote
from i2idist.tracking.run import JOURNAL
from i2idist.tracking.server import Server, Target, connected

ABOUT = About(name="x", params={"seed": 0}, tags={"made": "here"}, experiment="seed: 0")
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A database with MLflow's tables."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    client_of(f"sqlite:///{path}")
    return path


@pytest.fixture
def place(empty, tmp_path):
    """Makes the URI of a database of that name."""

    def make(name):
        (tmp_path / name).mkdir()
        shutil.copy(empty, tmp_path / name / "mlflow.db")
        return f"sqlite:///{tmp_path / name}/mlflow.db"

    return make


def start(uri, folder, record=None, wait_s=20.0, **how):
    return start_tracking(Tracking(wait_s=wait_s), uri, str(folder), ABOUT, record, **how)


def step(tracker, images):
    tracker.on_event({"event": "metrics", "images": images, "time": time.time(), "loss": 1.0 / images})


def steps(uri, run_id):
    return [point.step for point in client_of(uri).get_metric_history(run_id, "loss")]


def status(uri, run_id):
    return client_of(uri).get_run(run_id).info.status


def test_at_another_place_a_run_goes_on_in_a_new_mlflow_run_and_is_found_again(place, tmp_path):
    first, second = place("first"), place("second")
    record, runs = None, []
    for n, uri in enumerate((first, second, None, second, first), start=1):
        tracker = start(uri, tmp_path / "run", record)
        step(tracker, n)
        tracker.end("FINISHED")
        tracker.close()
        record = tracker.record()
        runs.append(tracker.run_id)
        assert record["uri"] == (uri or second)
    assert runs[0] == runs[4] != runs[1] == runs[2] == runs[3]
    assert steps(first, runs[0]) == [1, 5]
    assert steps(second, runs[1]) == [2, 4], "step 3 was left offline, and no training asked for it back"


def test_killed_while_it_waits_for_mlflow_in_the_end_a_run_in_an_object_store_loses_nothing(place, memory_url):
    uri = place("there")
    client = client_of(uri)
    run_id = client.create_run(experiment_id(client, uri, "i2idist")).info.run_id
    record = {"id": "a", "uri": NOWHERE, "experiment": "i2idist", "run_id": run_id}
    tracker = start(NOWHERE, memory_url, record)
    step(tracker, 1)
    tracker.end("FINISHED")  # and then never closed
    lines = left_behind(storage.join(memory_url, JOURNAL))
    assert [line["kind"] for line in lines] == ["start", "metrics", "end"]
    told = deliver_rest(Tracking(), uri, memory_url, "x", {**record, "uri": uri})
    assert (told["run_id"], steps(uri, run_id), status(uri, run_id)) == (run_id, [1], "FINISHED")
    tracker.close(failed=True, keep=False)


def test_what_was_left_stays_where_mlflow_cannot_be_reached_at_the_start(tmp_path):
    offline = start(None, tmp_path / "run")
    step(offline, 1)
    offline.close()
    before = (tmp_path / "run" / JOURNAL).read_bytes()
    with pytest.raises(TrackingError, match="Can't reach MLflow"):
        start(NOWHERE, tmp_path / "run", offline.record())
    assert (tmp_path / "run" / JOURNAL).read_bytes() == before


def test_who_lost_the_run_says_nothing_of_its_end(place, tmp_path):
    uri = place("there")
    lost, failed = (start(uri, tmp_path / name) for name in ("lost", "failed"))
    lost.close(failed=True, keep=False)
    failed.close(failed=True)
    assert status(uri, lost.run_id) == "RUNNING"
    assert status(uri, failed.run_id) == "FAILED"


def test_a_process_that_was_cut_off_asks_if_the_run_is_still_its_own_before_it_delivers(place, tmp_path, monkeypatch):
    uri, lost = place("there"), []

    def confirm():
        if lost:
            raise LeaseError("It is another's.")

    monkeypatch.setattr(delivery, "_CONFIRM_S", -1.0)
    tracker = start(uri, tmp_path / "run", confirm=confirm)
    step(tracker, 1)
    deadline = time.monotonic() + 20.0
    while not steps(uri, tracker.run_id) and time.monotonic() < deadline:
        time.sleep(0.1)
    lost.append(True)
    step(tracker, 2)
    time.sleep(1.0)
    tracker.close(failed=True, keep=False)
    assert steps(uri, tracker.run_id) == [1]


def test_names_that_mlflow_refuses_are_changed_and_stop_nothing(place, tmp_path):
    uri = place("there")
    names = {"G/l1 (ema)": "G/l1 _ema_", "/a//b/../c/": "a/b/c", "..": "_", "a.b/c-d": "a.b/c-d", "é" * 300: "é" * 240}
    numbers = {name: float(n) for n, name in enumerate(names)}
    about = About(name="x", params=numbers, tags=numbers, experiment="seed: 0")
    tracker = start_tracking(Tracking(wait_s=5.0), uri, str(tmp_path / "run"), about, None)
    tracker.on_event({"event": "metrics", "images": 1, "time": 1.0, **numbers})
    assert tracker.close() is None
    data = client_of(uri).get_run(tracker.run_id).data
    assert data.metrics == {found: numbers[name] for name, found in names.items()}
    assert data.params == {found: str(numbers[name]) for name, found in names.items()}
    assert data.params.items() <= data.tags.items()


def test_a_run_that_goes_on_has_its_dataset_once(place, tmp_path):
    uri, record = place("there"), None
    dataset = {"name": "pairs", "digest": "d" * 64, "url": "s3://team/pairs", "role": "paired"}
    about = About(name="x", params={}, tags={}, experiment="", dataset=dataset)
    for _ in range(2):
        tracker = start_tracking(Tracking(wait_s=5.0), uri, str(tmp_path / "run"), about, record)
        tracker.close()
        record = tracker.record()
    [found] = client_of(uri).get_run(tracker.run_id).inputs.dataset_inputs
    assert found.dataset.digest == "d" * 36


@pytest.mark.slow
def test_many_processes_may_begin_at_once_where_no_database_is(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    code = f"from i2idist.tracking.place import client_of; client_of({uri!r}).create_run('0')"
    begun = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in begun:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert len(client_of(uri).search_runs(["0"])) == 4


@pytest.fixture
def hanging_up():
    """The address of a server that hangs up at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            try:
                while True:
                    server.accept()[0].close()
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_password_shows_in_no_message_and_no_traceback(hanging_up, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://me:hunter2@{hanging_up}"

    def ask():
        with mlflow_errors("ask", uri):
            client_of(uri).get_run("0")

    for action in (lambda: connected(Server(Target(uri, "e", "n", "i"))), ask, lambda: promote("x", uri=uri)):
        with pytest.raises(TrackingError, match=r"me:\*\*\*@") as caught:
            action()
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    tracker = start(uri, tmp_path / "run", {"id": "a", "uri": f"http://me:***@{hanging_up}", "run_id": "0" * 32}, 0.5)
    with caplog.at_level(logging.INFO, "i2idist"):
        said = tracker.close(failed=True)
    assert "me:***@" in said
    assert "Can't deliver" in caplog.text
    assert "hunter2" not in f"{said} {caplog.text} {tracker.record()}"


def test_a_server_behind_a_proxy_is_reached_through_it(hanging_up, monkeypatch):
    server = Server(Target("http://mlflow.invalid:5000", "", "", ""))
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://{hanging_up}")
    server.reach()
    monkeypatch.setenv("no_proxy", "mlflow.invalid")
    with pytest.raises(OSError, match="not known|resolution"):
        server.reach()
