"""Jobs whose outputs all take one image's style."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from i2idist import storage
from i2idist.data.batches import Images
from i2idist.data.manifest import load_manifest
from i2idist.data.reader import DataSettings, Reader
from i2idist.errors import ConfigError, SampleError
from i2idist.evaluate import choose, evaluate
from i2idist.method import Domain
from i2idist.methods import MUNIT
from i2idist.model import load, save
from i2idist.translate import Options, sample, translate
from i2idist.translate.job import make_job
from i2idist.translate.style import read_style


@pytest.fixture(scope="module")
def munit(tmp_path_factory, digits):
    """A tiny model from 1 channel to 3, in whose outputs styles show: its URL."""
    domains, url = load_manifest(digits).domains_for(None), str(tmp_path_factory.mktemp("models") / "munit")
    torch.manual_seed(0)
    method = MUNIT(next(iter(MUNIT.tiny().values())), domains)
    for parameter in method.parameters():
        parameter.data.mul_(1.5)
    save(url, method, method_name="munit", domains=domains)
    return url


@pytest.fixture
def picture(tmp_path):
    """Writes a random picture of so many pixels: its path."""

    def write(name="style.png", size=(16, 16, 3), darkest=0):
        levels = np.random.default_rng(0).integers(darkest, darkest + 50, size, dtype=np.uint8)
        Image.fromarray(levels).save(tmp_path / name)
        return str(tmp_path / name)

    return write


def job(model, data, out, style, **options):
    return translate(model, data, str(out), Options(style_from=style, **options), launcher="local")


def images(url):
    settings = DataSettings(url=url, split="test")
    reader = Reader(settings, role=Images, batch_size=64, group_size=1, rank=0, world_size=1, seed=0, shuffle=False)
    try:
        return torch.cat([batch.x for batch in reader.epoch()])
    finally:
        reader.close()


def test_all_outputs_take_the_style(munit, shards, tmp_path, picture):
    path = picture()
    result = job(munit, shards, tmp_path / "out", path, batch_size=5)
    style = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1) / 127.5 - 1
    method, x = load(munit).method, images(shards)
    expected = method.translate(x, style_from=style)
    assert (images(result.url) - expected).abs().max() <= 1 / 255 + 1e-5
    other = job(munit, shards, tmp_path / "out", picture("other.png", darkest=200))
    assert (images(other.url) - expected).abs().max() > 0.1


def test_a_style_becomes_an_image_of_the_target_domain(tmp_path):
    """A grey picture in colours, black on the left and white on the right; at a size, or its own."""
    levels = np.repeat(np.array([[0] * 12 + [255] * 12], dtype=np.uint8), 40, axis=0)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    style, domain = read_style(str(tmp_path / "grey.png")), Domain("b", 3, 16, 16)
    own, small = style.image(domain, None), style.image(domain, (20, 16))
    assert (own.shape, small.shape) == ((3, 40, 24), (3, 20, 16))
    assert torch.equal(own[..., :12], -torch.ones(3, 40, 12)) and torch.equal(own[..., 12:], torch.ones(3, 40, 12))
    assert small[..., :6].max() < -0.9 and small[..., 10:].min() > 0.9


@pytest.mark.parametrize(("size", "expected"), [("trained", (16, 16)), ((32, 16), (32, 16)), ("stored", (40, 24))])
def test_a_style_is_resized_as_the_images_are(munit, shards, picture, size, expected):
    options = Options(style_from=picture(size=(40, 24, 3)), size=size)
    made = make_job(munit, shards, "out", options, split=None, domain=None, max_errors=0)
    assert made.style.shape == (3, *expected)


def test_the_digest_covers_what_the_file_holds_wherever_it_lies(munit, shards, tmp_path, picture):
    path, out = picture(), tmp_path / "out"
    styled, drawn = job(munit, shards, out, path), job(munit, shards, out, None)
    copy = shutil.copy(path, tmp_path / "copy.png")
    again = job(munit, shards, out, str(copy))
    assert (again.job_digest, again.kept) == (styled.job_digest, styled.shards)
    others = {drawn.job_digest, job(munit, shards, out, picture(darkest=200)).job_digest}
    assert len({styled.job_digest, *others}) == 3
    said = json.loads(storage.read_bytes(f"{styled.url}/job.json"))
    assert len(said["options"]["style_sha256"]) == 64
    assert said["style_url"] == str(copy)
    said = json.loads(storage.read_bytes(f"{drawn.url}/job.json"))
    assert "style_url" not in said and not [key for key in said["options"] if key.startswith("style")]


def test_a_style_that_cant_be_taken_is_refused_before_anything_is_written(munit, segan, shards, tmp_path, picture):
    path, out = picture(), tmp_path / "out"
    (tmp_path / "text.png").write_bytes(b"no image")
    for model, style, error, message in (
        (segan, path, ConfigError, "segan takes no style from an image"),
        (munit, str(tmp_path / "absent.png"), ConfigError, "absent.png, where there is no file"),
        (munit, str(tmp_path / "text.png"), SampleError, "text.png can't be decoded"),
    ):
        with pytest.raises(error, match=message):
            job(model, shards, out, style)
    with pytest.raises(ConfigError, match="num_samples is 2, but with style_from all outputs"):
        Options(style_from=path, num_samples=2)
    assert not out.exists()


def test_evaluations_and_samples_take_no_style(munit, shards, tmp_path, picture):
    options = Options(style_from=picture())
    with pytest.raises(ConfigError, match="leave style_from out"):
        evaluate(munit, shards, [choose("diversity-segan")], options, launcher="local")
    with pytest.raises(ConfigError, match="munit translates images"):
        sample(munit, 3, str(tmp_path / "out"), options, launcher="local")
