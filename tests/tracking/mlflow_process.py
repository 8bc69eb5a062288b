"""A real MLflow server on loopback, that tests can kill and start again."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request


class MlflowProcess:
    """`mlflow server` on one port and one SQLite file, both kept over restarts."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self, wait=True):
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_hex()
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        if wait:
            self.wait()
        return self

    def wait(self):
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError(f"The MLflow server ended with {self.process.returncode}: see {self.folder}/log")
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("The MLflow server didn't answer within a minute.")

    def kill(self):
        """As a crash would: the server and its workers, which are a process group of their own."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
