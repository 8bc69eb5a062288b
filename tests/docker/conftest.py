import os
import pwd
import shutil
import subprocess

import pytest

from tests.cluster.support import ROOT

USER = "nobody" if os.geteuid() == 0 else None
"""Whom the script runs as: it refuses root."""


def run_prepare(folder):
    """Run docker/prepare.sh; what it wrote to its output."""
    other = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if USER else {}
    command = ["sh", "-s", str(folder)]
    with (ROOT / "docker" / "prepare.sh").open() as script:
        done = subprocess.run(command, stdin=script, capture_output=True, text=True, cwd="/", **other)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def prepared(services_folder):
    """A folder that docker/prepare.sh has made ready."""
    folder = services_folder / "compose"
    folder.mkdir()
    if USER:
        shutil.chown(folder, USER)
    run_prepare(folder)
    return folder
