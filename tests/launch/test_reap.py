import dataclasses
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from i2idist.errors import RunError
from i2idist.launch import reap as module
from i2idist.launch.processes import Process, end
from i2idist.launch.reap import private_folder, reap, recorded

DRIVER = """
import subprocess, sys, time
from i2idist.launch.reap import recorded
with recorded() as folder:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    while f'"pid": {child.pid}' not in (folder / "record.json").read_text():
        time.sleep(0.02)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def driver(temporary):
    process = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process, Process.of(int(process.stdout.readline()))
    process.kill()
    process.communicate()


def test_what_a_killed_driver_left_is_ended(driver):
    process, child = driver
    assert reap() == []
    assert child.alive()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert child.alive()
    assert reap() == [child]
    assert not child.alive()
    assert list(private_folder().iterdir()) == []


def test_several_may_reap_at_once(temporary):
    process = subprocess.Popen([sys.executable, "-c", ""])
    gone = dataclasses.asdict(Process.of(process.pid))
    process.wait()
    for number in range(60):
        folder = private_folder() / f"{number}"
        folder.mkdir()
        (folder / "record.json").write_text(json.dumps({"driver": gone, "processes": []}))
    with ThreadPoolExecutor(4) as threads:
        assert [future.result() for future in [threads.submit(reap) for _ in range(4)]] == [[]] * 4
    assert list(private_folder().iterdir()) == []


def test_a_driver_that_ends_leaves_nothing(driver):
    process, child = driver
    process.communicate("")
    assert process.returncode == 0
    assert not child.alive()
    assert list(private_folder().iterdir()) == []


def test_only_recorded_processes_are_ended(temporary):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        found = Process.of(bystander.pid)
        with recorded() as folder:
            assert json.loads((folder / "record.json").read_text())["processes"] == []
        assert found.alive()
    finally:
        bystander.kill()
        bystander.wait()


def test_a_process_that_ignores_the_request_is_killed(monkeypatch):
    monkeypatch.setattr("i2idist.launch.processes._TERMINATE_S", 0.3)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    found = Process.of(process.pid)
    assert end([found]) == [found]
    assert process.wait(10) == -signal.SIGKILL


def test_the_folder_is_the_users_alone(temporary):
    folder = private_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    os.chmod(folder, 0o755)
    with pytest.raises(RunError, match="you alone can use"):
        private_folder()
