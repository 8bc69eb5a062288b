"""The Slurm script. It has never run under Slurm; where that isn't needed, it is run here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.support import ROOT

SHELLCHECK = str(Path(sys.executable).with_name("shellcheck"))
SCRIPTS = [ROOT / "cluster" / "slurm" / "train.sbatch", ROOT / "docker" / "prepare.sh"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shells_and_shellcheck_have_nothing_to_say(path):
    shell = re.match(r"#!/bin/(bash|sh)\n", path.read_text())[1]
    subprocess.run([shell, "-n", str(path)], check=True)
    checked = subprocess.run([SHELLCHECK, str(path)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_a_training_without_a_name_could_not_go_on_and_is_refused():
    done = subprocess.run(["bash", str(SCRIPTS[0]), "segan_digits"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--run NAME" in done.stderr


def test_a_job_that_is_preempted_or_out_of_time_is_told_first_and_queued_again():
    text = SCRIPTS[0].read_text()
    assert int(re.search(r"^#SBATCH --signal=B:TERM@(\d+)$", text, re.MULTILINE)[1]) >= 120
    assert re.search(r"^#SBATCH --requeue$", text, re.MULTILINE)
