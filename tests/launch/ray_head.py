"""A real Ray head with its dashboard, on loopback, for tests that submit to it."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import i2idist
from services.supervise import answers, free_port, write_secret

WAIT_S = 60


class RayHead:
    """A cluster of one node that asks for a token; it runs the code of this working tree."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="i2i-", dir="/tmp"))  # Ray's sockets need a short path
        self.token = secrets.token_hex(32)
        self.token_file = self.folder / "token"
        write_secret(self.token_file, self.token)
        ports = {name: free_port() for name in ("port", "dashboard-port", "dashboard-agent-listen-port")}
        ports |= {name: free_port() for name in ("ray-client-server-port", "dashboard-agent-grpc-port")}
        ports["metrics-export-port"] = free_port()
        self.metrics = f"http://127.0.0.2:{ports['metrics-export-port']}/metrics"
        self.address = f"http://127.0.0.1:{ports['dashboard-port']}"
        # Ray takes 127.0.0.1 as "this host" and would go by the host's own address; 127.0.0.2 stays on loopback.
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command += ["--node-ip-address=127.0.0.2", "--dashboard-host=127.0.0.1", "--include-dashboard=true"]
        command += [f"--{name}={port}" for name, port in ports.items()]
        command += ["--num-cpus=2", "--object-store-memory=200000000", "--disable-usage-stats"]
        command += [f"--temp-dir={self.folder}"]
        with (self.folder / "head.txt").open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment(), start_new_session=True
            )
        self._wait()

    def _environment(self):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "I2IDIST_", "MLFLOW_"))}
        kept.pop("AWS_CA_BUNDLE", None)
        clone = Path(i2idist.__file__).parents[1]
        return kept | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(clone),
            "RAY_AUTH_MODE": "token",
            "RAY_metrics_report_interval_ms": "500",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
        }

    def _wait(self):
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                if answers(f"{self.address}/api/version", (401,)):
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "head.txt").read_text()
                self.stop()
                raise RuntimeError(f"The Ray head didn't come up: {said}")
            time.sleep(0.2)

    def stop(self):
        """End the head and all that it started: its workers are in groups of their own."""
        family = [psutil.Process(self.process.pid)] if self.process.poll() is None else []
        family += [child for parent in family for child in parent.children(recursive=True)]
        self.process.terminate()
        psutil.wait_procs(family, timeout=5)
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
