"""Paths of modalities as targets, from the registered model's folder: batch translation, evaluation, requests."""

import base64
import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from i2idist.data.batches import Images, Multimodal
from i2idist.data.pack import Sample, pack
from i2idist.data.reader import DataSettings, Reader
from i2idist.errors import ConfigError, SampleError
from i2idist.evaluate import choose, evaluate
from i2idist.method import Domain, Domains
from i2idist.model import load, save
from i2idist.payload import translate_images
from i2idist.tracking.pictures import Pictures
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from i2idist.translate import Options, translate
from tests.methods.modal import make_mmnet

SIDE, CLASSES, COUNT = 16, 3, 7
DOMAINS = Domains(
    (Domain("depth", 1, SIDE, SIDE), Domain("labels", 1, SIDE, SIDE, CLASSES), Domain("rgb", 3, SIDE, SIDE))
)


def scene(seed):
    draws = np.random.default_rng(seed)
    rgb = draws.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    depth = draws.integers(1, 65536, (SIDE, SIDE), dtype=np.uint16)
    labels = draws.integers(0, CLASSES + 1, (4, 4), dtype=np.uint8).repeat(4, 0).repeat(4, 1)  # one more: unlabelled
    return {"rgb": rgb, "depth": depth, "labels": labels}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """All modalities of all but the last, which has no depth."""
    samples = [Sample(f"s{n}", "test", scene(n)) for n in range(COUNT - 1)]
    samples.append(Sample("s9", "test", {k: v for k, v in scene(9).items() if k != "depth"}))
    url = str(tmp_path_factory.mktemp("data") / "rooms")
    pack(samples, url, name="rooms", role="multimodal", domains=("rgb", "depth", "labels"), workers=1)
    return url


def lively(**config):
    """With weights so large that outputs fill their range: those of fresh ones are next to nothing."""
    method = make_mmnet(**config)
    with torch.no_grad():
        for weights in method.parameters():
            weights *= 20.0 if weights.dim() == 4 else 1.0
    return method


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("models") / "mm")
    save(url, lively(domains=DOMAINS), method_name="mmnet", domains=DOMAINS)
    return url


def opened(url, role, **settings):
    common = {"batch_size": COUNT, "group_size": 1, "rank": 0, "world_size": 1, "seed": 0, "split": "test"}
    reader = Reader(DataSettings(url=url, **settings), role=role, **common)
    try:
        return next(reader.epoch())
    finally:
        reader.close()


def batch(rooms):
    return opened(rooms, Multimodal, domains=("depth", "labels", "rgb"), label_maps={"labels": CLASSES})


def inputs(rooms, *names):
    found = batch(rooms)
    images = dict(zip(("depth", "labels", "rgb"), found.images, strict=True))
    return torch.cat([images[name][: COUNT - 1] for name in names], dim=1)


PATHS = {
    "depth->labels": ("depth",),
    "rgb+depth->labels": ("rgb", "depth"),
    "depth->rgb->labels": ("depth",),
    "depth+labels->rgb": ("depth", "labels"),
}


@pytest.mark.parametrize("target", PATHS)
def test_batch_translation_reads_every_image_that_a_path_takes(model, rooms, tmp_path, target):
    done = translate(model, rooms, str(tmp_path), Options(target=target), split="test", launcher="local")
    assert (done.inputs, done.errors) == (COUNT - 1, 0)  # the sample without depth is left out
    goal = target.rpartition("->")[2]
    x = opened(done.url, Images, domains=(goal,)).x
    wanted = load(model).translate(inputs(rooms, *PATHS[target]), target=target)[:, 0]
    assert (x - wanted).abs().max() <= (1e-6 if goal == "labels" else 1 / 255 + 1e-6)


@pytest.mark.parametrize("target", [path for path in PATHS if path.endswith("labels")])
def test_label_maps_are_measured_as_they_come_out(model, rooms, target):
    (record,) = evaluate(model, rooms, [choose("miou")], Options(target=target), split="test", launcher="local").records
    made = load(model).translate(inputs(rooms, *PATHS[target]), target=target)[:, 0, 0]
    truth = np.stack([scene(n)["labels"] for n in range(COUNT - 1)])
    kept, found = truth < CLASSES, ((made + 1) * 127.5).round().numpy().astype(int)
    assert record.estimate.value == pytest.approx(jaccard_score(truth[kept], found[kept], average="macro"))
    assert record.estimate.counts["inputs"] == COUNT - 1


def test_depths_made_of_label_maps_are_measured(model, rooms):
    options = Options(target="rgb+labels->depth")
    (record,) = evaluate(model, rooms, [choose("depth-rmse")], options, split="test", launcher="local").records
    made = load(model).translate(inputs(rooms, "rgb", "labels"), target=options.target)[:, 0, 0].double()
    truth = np.stack([scene(n)["depth"] for n in range(COUNT - 1)]) / 65535
    error = ((made.numpy() + 1) / 2).clip(1e-3) - truth
    assert record.estimate.value == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)


def test_label_maps_of_another_size_are_not_mixed(model, rooms, tmp_path):
    """At twice the size each pixel is four: had classes been mixed, there would be others between them."""
    doubled = Options(target="labels->rgb", size=(2 * SIDE, 2 * SIDE))
    done = translate(model, rooms, str(tmp_path), doubled, split="test", launcher="local")
    x = inputs(rooms, "labels").repeat_interleave(2, 2).repeat_interleave(2, 3)
    wanted = load(model).translate(x, target="labels->rgb")[:, 0]
    y = opened(done.url, Images).x[: COUNT - 1]
    assert wanted.std() > 0.1 and (y - wanted).abs().max() <= 1 / 255 + 1e-6


def test_depths_that_were_resized_to_the_nearest_pixel_in_training_are_so_here(rooms, tmp_path):
    domains = Domains((dataclasses.replace(DOMAINS.a, nearest=True), *DOMAINS.images[1:]))
    saved = str(tmp_path / "model")
    save(saved, lively(domains=domains, holes=("depth",)), method_name="mmnet", domains=domains)
    doubled = Options(target="depth->rgb", size=(2 * SIDE, 2 * SIDE))
    done = translate(saved, rooms, str(tmp_path / "out"), doubled, split="test", launcher="local")
    x = inputs(rooms, "depth").repeat_interleave(2, 2).repeat_interleave(2, 3)
    y = opened(done.url, Images).x
    wanted = load(saved).translate(x, target="depth->rgb")[:, 0]
    assert wanted.std() > 0.1 and (y - wanted).abs().max() <= 1 / 255 + 1e-6


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_requests_send_the_images_that_are_fused_in_one_string(model):
    translator = load(model)
    shown = scene(3)
    sent = f"{png(shown['rgb'])}|{png(shown['depth'])}"
    ((answer,),) = translate_images(translator, [sent], target="rgb+depth->labels")
    levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer))))
    x = torch.cat(
        [
            torch.from_numpy(shown["rgb"].astype(np.float32)).permute(2, 0, 1) / 127.5 - 1,
            torch.from_numpy(shown["depth"].astype(np.float32))[None] / 32767.5 - 1,
        ]
    )[None]
    assert (
        (translator.translate(x, target="rgb+depth->labels")[0, 0, 0] + 1) * 127.5
    ).round().int().tolist() == levels.tolist()
    with pytest.raises(SampleError, match="Image 0 holds 1 images: send those of rgb, depth, joined by '|'"):
        translate_images(translator, [png(shown["rgb"])], target="rgb+depth->labels")
    with pytest.raises(SampleError, match="Image 0, depth, has 3 channels"):
        translate_images(translator, [f"{png(shown['rgb'])}|{png(shown['rgb'])}"], target="rgb+depth->labels")
    with pytest.raises(SampleError, match="differ in size"):
        translate_images(translator, [f"{png(shown['rgb'])}|{png(shown['depth'][:8])}"], target="rgb+depth->labels")


def test_the_first_path_is_the_default_and_others_are_named(model, rooms):
    translator = load(model)
    x = inputs(rooms, "depth")
    assert translator.targets[0] == "depth->labels"
    assert torch.equal(translator.translate(x), translator.translate(x, target="depth->labels"))
    with pytest.raises(ConfigError, match="no domain 'label'. Did you mean 'labels'"):
        translator.translate(x, target="depth->label")
    with pytest.raises(ConfigError, match="of domain 'rgb\\+depth'"):
        translator.translate(x, target="rgb+depth->labels")


def test_unpaired_data_has_nothing_to_fuse(model, tmp_path):
    samples = [Sample(f"{d}{n}", "test", {d: scene(n)[d]}) for d in ("rgb", "depth") for n in range(2)]
    pack(samples, str(tmp_path / "d"), name="d", role="unpaired", domains=("rgb", "depth"), workers=1)
    with pytest.raises(ConfigError, match="no images of 'rgb\\+depth' together"):
        translate(
            model, str(tmp_path / "d"), str(tmp_path / "o"), Options(target="rgb+depth->labels"), launcher="local"
        )


def test_pictures_show_all_paths_to_the_first_goal(rooms):
    method = make_mmnet(domains=DOMAINS)
    trainer = Trainer(method, Training(total_images=8, batch_size=4), seed=0, comm=Comm.alone())
    pictures = Pictures(lambda: batch(rooms), seed=0)
    cell = SIDE * 5
    width = pictures.grid(trainer).size[0]
    assert width > 5 * cell  # depth; of depth, of RGB, of both; the truth
    assert pictures.attention(trainer) is None and pictures.interpolation(trainer) is None
