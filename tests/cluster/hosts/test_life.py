"""Clusters come and go, side by side, and leave nothing, whatever is killed."""

import os
import secrets
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest

from cluster.local.hosts import Cluster
from cluster.local.network import Network, free_subnet
from i2idist.errors import ServiceError
from services.supervise import read_record


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_a_second_cluster_is_apart_and_down_takes_it_away_after_a_crash(cluster, ready):
    with tempfile.TemporaryDirectory(prefix="i2idist-hosts-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        other = Cluster(name)
        try:
            other.up(1)
            one, two = cluster.plan(), other.plan()
            assert one.subnet != two.subnet and one.name != two.name
            assert other.in_ray() == {two.address("head"), two.address("host1")}
            reached = other.exec(
                "host1", ["bash", "-c", f"echo > /dev/tcp/{one.address('host1')}/1"], capture_output=True
            )
            assert b"unreachable" in reached.stderr
            os.kill(read_record(other.folder / "supervisor").pid, signal.SIGKILL)
            os.kill(other.unit("head").pid, signal.SIGKILL)
        finally:
            other.down()
        assert two.network.processes() == []
        assert two.name not in subprocess.run(["ip", "link"], capture_output=True, text=True).stdout
        assert two.name not in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
        assert not Path(two.node_folder).exists()
        assert [pid for pid in psutil.pids() if name in _command_of(pid)] == []
        other.down()
    cluster.wait(timeout_s=10)


def _command_of(pid):
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def test_without_root_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ServiceError, match="need Linux and root: use sudo"):
        Cluster(tmp_path).up(1)
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ServiceError, match="There is no cluster in .*: python -m cluster.local up"):
        Cluster(tmp_path).states()


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_hosts_reach_each_other_until_a_wire_is_pulled():
    network = Network(f"t{secrets.token_hex(3)}", free_subnet())
    try:
        network.create()
        network.attach("a", 2)
        network.attach("b", 3)
        listening = subprocess.Popen(
            ["ip", "netns", "exec", network.namespace("b"), "sleep", "600"], stdout=subprocess.DEVNULL
        )
        assert listening.pid in network.processes("b") and network.processes("a") == []
        assert _reaches(network, "a", 3) and _reaches(network, "b", 1)
        network.plug("b", False)
        assert not network.plugged("b") and not _reaches(network, "a", 3)
        network.plug("b", True)
        assert _reaches(network, "a", 3)
        network.create()
        assert _reaches(network, "a", 3), "what is there isn't made anew"
    finally:
        network.remove()
        listening.wait(5)
    assert network.processes() == []
    network.remove()


def _reaches(network, host, number):
    """Whether a host's packets come to an address: a port where nobody listens refuses at once."""
    code = (
        "import socket, sys; s = socket.socket(); s.settimeout(2); "
        f"sys.exit(s.connect_ex(('{network.address(number)}', 9)) != 111)"
    )
    return subprocess.run(["ip", "netns", "exec", network.namespace(host), "python3", "-c", code]).returncode == 0
