"""What a real Ray node tells Prometheus of a training and a translation."""

import re
import time
import urllib.request
from contextlib import suppress

import pytest

from i2idist.method import Domain, Domains
from i2idist.methods.pix2pix import Pix2Pix
from i2idist.model import save
from i2idist.translate.shard import STAGES
from tests.launch.ray_head import RayHead
from tests.launch.test_submit import background

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def head():
    started = RayHead()
    yield started
    started.stop()


@pytest.fixture
def person(head, tmp_path, monkeypatch):
    for name in ("RAY_ADDRESS", "I2IDIST_CATALOG", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", head.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token_file))
    monkeypatch.setenv("I2IDIST_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)


def scraped(head):
    """Our metrics: {name: {labels: value}}."""
    found, text = {}, ""
    with suppress(OSError):  # the node's exporter starts after the head answers
        text = urllib.request.urlopen(head.metrics, timeout=10).read().decode()
    for name, labels, value in re.findall(r"^ray_(i2idist_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        found.setdefault(name, {})[labels] = float(value)
    return found


def seen_while(process, head):
    """The last values that were scraped while a process ran."""
    seen, deadline = {}, time.monotonic() + 250
    while process.poll() is None:
        assert time.monotonic() < deadline
        for name, values in scraped(head).items():
            seen.setdefault(name, {}).update(values)
        time.sleep(0.5)
    assert process.returncode == 0, process.communicate()
    return seen


def test_a_training_is_scraped(head, person, tiny):
    recipe = tiny(train={"total_images": 400, "checkpoint_every_images": 200, "log_every_images": 20})
    submit = ["submit", "train", recipe, "resources.launcher=ray", "resources.num_workers=2", "--run", "watched"]
    seen = seen_while(background(*submit, "--follow"), head)
    assert set(seen) == {
        f"i2idist_training_{name}"
        for name in (
            *("images", "images_per_second", "step_seconds", "data_wait_fraction"),
            *("communication_seconds", "checkpoint_age_seconds"),
        )
    }
    (labels,) = seen["i2idist_training_images"]
    assert 'run="watched"' in labels and re.search(r'job="watched-\w+"', labels), labels
    values = {name.removeprefix("i2idist_training_"): next(iter(each.values())) for name, each in seen.items()}
    assert 0 < values["images"] <= 400
    assert values["images_per_second"] > 0
    assert 0 <= values["data_wait_fraction"] < 1
    assert 0 < values["communication_seconds"] < values["step_seconds"] < 60
    assert 0 <= values["checkpoint_age_seconds"] < 120


def test_a_translation_is_scraped(head, person, tmp_path):
    domains = Domains((Domain("a", 1, 16, 16), Domain("b", 3, 16, 16)))
    small = Pix2Pix.Config(width=4, discriminator_width=4, discriminator_layers=2, depth=3)
    save(str(tmp_path / "model"), Pix2Pix.build(small, domains), method_name="pix2pix", domains=domains)
    data = "generated:edges?size=16&train=400&val=6&test=0"
    translate = ["submit", "translate", str(tmp_path / "model"), data, str(tmp_path / "out"), "--workers", "1"]
    seen = seen_while(background(*translate, "--num-samples", "1", "--seed", "0", "--follow"), head)
    work = {name.removeprefix("i2idist_work_"): each for name, each in seen.items() if "i2idist_work_" in name}
    assert set(work) == {"images_total", "items_total", "images_per_second", "stage_seconds_total"}
    assert sum(work["images_total"].values()) > 0 and max(work["images_per_second"].values()) > 0
    assert sum(work["items_total"].values()) > 0
    stages = {re.search(r'stage="(\w+)"', labels)[1] for labels in work["stage_seconds_total"]}
    assert stages <= set(STAGES) and stages
