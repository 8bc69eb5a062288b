"""Every recipe that comes with i2idist can be read, and its networks made."""

import numpy as np
import pytest
import torch
from PIL import Image

from i2idist.data.batches import Unpaired
from i2idist.data.generated import GENERATED, is_generated
from i2idist.data.layouts import read_layout
from i2idist.data.pack import pack
from i2idist.data.reader import Reader
from i2idist.experiment import method_class, read_experiment
from i2idist.recipe import parse_overrides, recipes
from tests.methods.support import domains

CHANNELS = {"digits": (1, 3), "edges": (1, 3), "maps": (3, 3)}


@pytest.mark.parametrize("name", recipes())
def test_recipe(name):
    experiment = read_experiment(name)
    url, size = experiment.data.url, experiment.data.size or 32
    generated = url.removeprefix("generated:").partition("?")[0] if is_generated(url) else None
    assert generated is None or generated in GENERATED
    with torch.device("meta"):
        method_class(experiment.method)(
            experiment.method.config, domains(*CHANNELS.get(generated, (3, 3)), (size, size))
        )


def test_every_method_has_recipes_at_paper_scale_and_small():
    found = {name: read_experiment(name) for name in recipes()}
    small = {e.method.name for e in found.values() if is_generated(e.data.url)}
    paper = {e.method.name for e in found.values() if not is_generated(e.data.url)}
    assert small >= {"segan", "pix2pix", "pix2pix_noise", "cyclegan", "cyclegan_noise"} <= paper


@pytest.mark.parametrize(("turned", "source"), [([], 1.0), (["data.domains=[a,b]"], -1.0)])
def test_winter2summer_translates_train_b_to_train_a_as_its_comment_says(tmp_path, turned, source):
    """The README's tour: `data pack photos/ DEST --layout trainA-trainB`, then the recipe on DEST."""
    for folder, level in (("trainA", 0), ("trainB", 255)):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(tmp_path / "photos" / folder / "1.png")
    photos, dest = read_layout(str(tmp_path / "photos"), "trainA-trainB"), str(tmp_path / "packed")
    pack(photos.samples, dest, name="w2s", role=photos.role, domains=photos.domains)
    small = [f"data.url={dest}", "data.size=8", "data.load_size=9", *turned]
    data = read_experiment("segan_winter2summer", parse_overrides(small)).data
    reader = Reader(data, role=Unpaired, batch_size=1, group_size=1, rank=0, world_size=1, seed=0)
    batch = next(reader.batches())
    reader.close()
    assert (batch.a.mean().item(), batch.b.mean().item()) == (source, -source)
