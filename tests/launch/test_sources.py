import dataclasses
import hashlib

import pytest
import safetensors.torch
import torch

from i2idist import weights
from i2idist.errors import SourceError
from i2idist.experiment import from_dict
from i2idist.launch.sources import adopt_pins, load_source, pin_sources
from i2idist.train.checkpoint import Checkpoints, State


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "vgg.safetensors"
    path.write_bytes(safetensors.torch.save({"w": torch.arange(3.0)}))
    return path


def experiment(**sections):
    raw = {"method": "cyclegan", "data": {"url": "x"}, "train": {"total_images": 1, "batch_size": 1}}
    return from_dict({**raw, **sections}, "recipe.yaml")


def test_a_file_is_pinned_by_digest_and_checked_when_read(file, tmp_path):
    found = pin_sources(experiment(sources={"vgg": str(file)}), str(tmp_path)).sources["vgg"]
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert torch.equal(load_source(found)["w"], torch.arange(3.0))
    file.write_bytes(safetensors.torch.save({"w": torch.zeros(3)}))
    with pytest.raises(SourceError, match=f"changed since this run was created: .*not {found.sha256}"):
        load_source(found)


def test_published_weights_are_copied_beside_the_runs(tmp_path):
    """So that every worker reaches them, whatever is installed there."""
    pinned = pin_sources(experiment(sources={"features": "weights:stlpips-alex"}), str(tmp_path)).sources["features"]
    assert pinned.url == str(tmp_path / ".sources" / f"{pinned.sha256}.safetensors")
    assert pin_sources(experiment(sources={"features": "weights:stlpips-alex"}), str(tmp_path)).sources == {
        "features": pinned
    }
    published = weights.read("stlpips-alex")
    assert load_source(pinned).keys() == published.keys()
    with pytest.raises(SourceError, match="no weights named 'stlpips-alx'.* Did you mean 'stlpips-alex'"):
        pin_sources(experiment(sources={"features": "weights:stlpips-alx"}), str(tmp_path))


def test_a_digest_in_the_recipe_is_held_to(file, tmp_path):
    wanted = {"vgg": {"uri": str(file), "sha256": "0" * 64}}
    with pytest.raises(SourceError, match=r"sources.vgg: .* has SHA-256 .*, not 0000"):
        pin_sources(experiment(sources=wanted), str(tmp_path))


def test_a_run_is_pinned_to_its_newest_checkpoint_whose_method_state_is_read(tmp_path):
    checkpoints = Checkpoints(str(tmp_path / "earlier" / "checkpoints"))
    for images in (4, 8):
        checkpoints.save(State({"method.G.w": torch.full((2,), float(images)), "optimizer.x": torch.zeros(1)}), images)
    checkpoints.wait()
    pinned = pin_sources(experiment(init_from="earlier"), str(tmp_path))
    assert pinned.init_from.url.endswith("earlier/checkpoints/images-000000000008")
    assert load_source(pinned.init_from).keys() == {"G.w"}
    checkpoints.save(State({"method.G.w": torch.zeros(2)}), 12)
    checkpoints.wait()
    assert adopt_pins(experiment(init_from="earlier"), pinned) == pinned
    other = dataclasses.replace(pinned.init_from, uri="another")
    assert (
        adopt_pins(experiment(init_from="earlier"), dataclasses.replace(pinned, init_from=other)).init_from.url is None
    )


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("absent.safetensors", "there is no file"),
        ("absent", "'absent' is no safetensors file, no saved model, no checkpoint, and no run"),
    ],
)
def test_absent_sources_are_named(tmp_path, uri, message):
    with pytest.raises(SourceError, match=f"init_from: {message}"):
        pin_sources(experiment(init_from=uri), str(tmp_path))
