"""What a real Ray node tells Prometheus of a training and a translation."""

import re
import statistics
import time
import urllib.request
from contextlib import suppress

import numpy as np
import pytest

from i2idist.data.pack import Sample, pack
from i2idist.method import Domain, Domains
from i2idist.methods.pix2pix import Pix2Pix
from i2idist.model import save
from i2idist.translate.shard import STAGES
from tests.launch.ray_head import RayHead
from tests.launch.test_submit import background

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMAGES = 3000


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
    """What was scraped while a process ran: {name: {labels: [value, ...]}}, without repetitions in a row."""
    seen, deadline = {}, time.monotonic() + 250
    while process.poll() is None:
        assert time.monotonic() < deadline
        for name, values in scraped(head).items():
            for labels, value in values.items():
                series = seen.setdefault(name, {}).setdefault(labels, [])
                if series[-1:] != [value]:
                    series.append(value)
        time.sleep(0.2)
    assert process.returncode == 0, process.communicate()
    return seen


def test_a_training_is_scraped(head, person, tiny, tmp_path, metrics):
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

    told = [event for event in metrics(tmp_path / "runs", "watched") if event["event"] == "metrics"]
    pairs = list(zip(told, told[1:], strict=False))
    steps = {(two["time"] - one["time"]) / (two["step"] - one["step"]) for one, two in pairs}
    for name, true in (
        ("images", {event["images"] for event in told}),
        ("images_per_second", {event["images_per_s"] for event in told}),
        ("data_wait_fraction", {event["data_wait_fraction"] for event in told}),
        ("step_seconds", steps),
    ):
        assert all(any(value == pytest.approx(one) for one in true) for value in values[name]), (name, values[name])
    assert values["images"] == sorted(values["images"])
    assert min(values["communication_seconds"]) > 0 and max(values["communication_seconds"]) < max(steps)
    lasted = told[-1]["time"] - told[0]["time"]
    assert min(values["checkpoint_age_seconds"]) >= 0 and max(values["checkpoint_age_seconds"]) < lasted + 20


def test_a_translation_is_scraped(head, person, tmp_path):
    domains = Domains((Domain("a", 1, 16, 16), Domain("b", 3, 16, 16)))
    small = Pix2Pix.Config(width=4, discriminator_width=4, discriminator_layers=2, depth=3)
    save(str(tmp_path / "model"), Pix2Pix.build(small, domains), method_name="pix2pix", domains=domains)
    noise = np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 16, 1), dtype=np.uint8)
    samples = [Sample(f"s{number:04d}", "train", {"a": image}) for number, image in enumerate(noise)]
    pack(samples, str(tmp_path / "data"), name="noise", role="images", shard_bytes=300_000, workers=1)
    translate = ["submit", "translate", str(tmp_path / "model"), str(tmp_path / "data"), str(tmp_path / "out")]
    begun = time.monotonic()
    seen = seen_while(background(*translate, "--workers", "1", "--num-samples", "1", "--seed", "0", "--follow"), head)
    took_s = time.monotonic() - begun
    work = {name.removeprefix("i2idist_work_"): each for name, each in seen.items() if "i2idist_work_" in name}
    assert set(work) == {"images_total", "items_total", "images_per_second", "stage_seconds_total"}
    (images,), (items,) = work["images_total"].values(), work["items_total"].values()
    shards = len(list((tmp_path / "data").rglob("*.tar")))
    assert images == sorted(images) and images[0] > 0 and images[-1] <= IMAGES
    assert items == sorted(items) and items[0] > 0 and items[-1] <= shards
    stages = {re.search(r'stage="(\w+)"', labels)[1]: values for labels, values in work["stage_seconds_total"].items()}
    assert set(stages) == set(STAGES)
    spent_s = sum(values[-1] for values in stages.values())
    assert 0 < spent_s < took_s
    (rates,) = work["images_per_second"].values()
    assert images[-1] / spent_s / 3 < statistics.median(rates) < images[-1] / spent_s * 3
