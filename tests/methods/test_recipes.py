"""Every recipe that comes with i2idist can be read, and its networks made."""

import pytest
import torch

from i2idist.data.generated import GENERATED, is_generated
from i2idist.experiment import method_class, read_experiment
from i2idist.recipe import recipes
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
