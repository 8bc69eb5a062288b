"""Evaluation on Ray actors: the values of one process, to the last bit, whoever does the work."""

import os
import signal

import psutil
import pytest
import torch

from i2idist.data.generated import resolve
from i2idist.data.manifest import load_manifest
from i2idist.evaluate import choose, evaluate
from i2idist.experiment import Resources
from i2idist.launch.cluster import cluster
from i2idist.methods import SEGAN
from i2idist.model import save

CHOICES = (
    choose("diversity-segan", inputs=9, samples=8),
    choose("frechet", inputs=60),
    choose("accuracy", inputs=60),
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def ray():
    with cluster(Resources(num_workers=3, threads_per_worker=1), print):
        yield


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return resolve("generated:digits?size=16&train=20&val=0&test=70", str(tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="module")
def model(digits, tmp_path_factory):
    domains = load_manifest(digits).domains_for(None)
    torch.manual_seed(0)
    method = SEGAN(SEGAN.tiny()["unpaired_jsd"], domains)
    for parameter in method.parameters():
        parameter.data.mul_(8)
    url = str(tmp_path_factory.mktemp("models") / "tiny")
    save(url, method, method_name="segan", domains=domains)
    return url


def measured(model, digits, **how):
    return [(r.name, r.estimate) for r in evaluate(model, digits, CHOICES, **how).records]


def same(found, expected):
    for (name, estimate), (wanted_name, wanted) in zip(found, expected, strict=True):
        assert name == wanted_name
        assert (estimate.value, estimate.low, estimate.high) == (wanted.value, wanted.low, wanted.high)
        assert estimate.counts == wanted.counts


@pytest.fixture(scope="module")
def alone(model, digits):
    """What one process measures."""
    return measured(model, digits, launcher="local")


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_any_number_of_actors_measures_the_same(ray, model, digits, alone, workers):
    same(measured(model, digits, workers=workers), alone)


def test_a_killed_actor_changes_nothing(ray, model, digits, alone):
    killed = []

    def kill(progress):
        if progress.done >= 60 and not killed:
            process = _workers()[0]
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)

    same(measured(model, digits, workers=2, on_progress=kill), alone)
    assert killed


def _workers():
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "_Worker" in process.name() or "_Worker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
