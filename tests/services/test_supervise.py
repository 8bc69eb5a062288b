"""The machinery under every service, with a server of Python's own that starts in no time."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

import services
from i2idist.errors import ServiceError
from services.supervise import Service, answers, claimed, free_port, write_secret

SERVE = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]


def start(folder, port=None, command=None, timeout_s=20.0, **settings):
    with claimed("web server", folder) as claim:
        number = claim.ports(("http",), port)["http"]
        url = f"http://127.0.0.1:{number}"
        pid, started = claim.run(
            command or [*SERVE, str(number)],
            ready=lambda: answers(url),
            timeout_s=timeout_s,
            settings=settings,
        )
        return Service("web server", url, pid, claim.folder, {"WEB": url}, ("OTHER",), started)


def runs(process):
    """Whether it does; a zombie, which init may be slow to reap, doesn't."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def folder(tmp_path):
    yield tmp_path / "web"
    services.stop(tmp_path / "web")


def test_starting_twice_is_starting_once(folder):
    first = start(folder)
    assert first.alive
    assert answers(first.url)
    assert start(folder) == first


def test_it_comes_back_at_the_same_address_after_a_kill_or_a_stop(folder):
    first = start(folder)
    first.kill()
    assert not first.alive
    second = start(folder)
    assert (second.url, second.pid != first.pid) == (first.url, True)
    services.stop(folder)
    assert not second.alive
    assert start(folder).url == first.url


def test_it_outlives_its_starter(folder):
    code = f"from pathlib import Path; from tests.services.test_supervise import start; start(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    service = start(folder)
    assert psutil.Process(service.pid).ppid() != os.getpid()
    service.stop()
    assert not service.alive
    service.stop()
    services.stop(folder)


def test_children_end_with_it_even_those_that_it_left_behind(folder):
    port = free_port()
    code = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]).wait()
"""
    service = start(folder, port, [sys.executable, "-c", code])
    (child,) = psutil.Process(service.pid).children()
    service.kill()
    assert not runs(child)
    service = start(folder, port, [sys.executable, "-c", code])
    (child,) = psutil.Process(service.pid).children()
    os.kill(service.pid, signal.SIGKILL)
    os.waitpid(service.pid, 0)
    assert answers(f"http://127.0.0.1:{port}")
    again = start(folder, port)
    assert not runs(child)
    assert again.alive


def test_an_end_at_the_start_shows_the_end_of_the_log(folder):
    with pytest.raises(ServiceError, match=r"(?s)web server in .*web ended at once.*No module named nonsense"):
        start(folder, command=[sys.executable, "-m", "nonsense"])


def test_silence_is_given_up_and_leaves_no_process(folder):
    with pytest.raises(ServiceError, match="didn't answer within 0 s"):
        start(
            folder,
            command=[sys.executable, "-c", "import time; print('hm', flush=True); time.sleep(60)"],
            timeout_s=0.4,
        )
    assert [p for p in psutil.process_iter() if p.ppid() == os.getpid() and "sleep(60)" in " ".join(p.cmdline())] == []


def test_other_settings_are_refused_while_it_runs(folder):
    service = start(folder, color="red")
    with pytest.raises(ServiceError, match=rf"runs already \(process {service.pid}\) with color 'red'. Use those"):
        start(folder, color="blue")
    with pytest.raises(ServiceError, match="with ports"):
        start(folder, free_port(), color="red")
    service.stop()
    assert start(folder, color="blue").alive


def test_a_taken_port_is_named(folder, tmp_path):
    other = start(tmp_path / "other")
    port = int(other.url.rsplit(":", 1)[1])
    try:
        with pytest.raises(ServiceError, match=rf"Port {port}, which the web server .* is taken by another process"):
            start(folder, port)
    finally:
        other.stop()


def test_a_process_that_took_over_the_number_is_left_alone(folder):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        Service("web server", "", bystander.pid, folder, started=time.time() - 1000).kill()
        time.sleep(0.2)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_clients_are_led_to_it(folder, monkeypatch):
    monkeypatch.setenv("OTHER", "in the way")
    service = start(folder)
    found = service.client_environment()
    assert found["WEB"] == service.url
    assert "OTHER" not in found
    assert found["PATH"] == os.environ["PATH"]


def test_secrets_are_for_their_owner_alone(tmp_path):
    old = os.umask(0)
    try:
        write_secret(tmp_path / "secret", "x")
        write_secret(tmp_path / "secret", "y")
    finally:
        os.umask(old)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "secret").read_text() == "y"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
