"""Every recipe that comes with i2idist can be read, fits its data, and its networks can be made."""

import re
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i2idist.cli import load
from i2idist.data.batches import Unpaired
from i2idist.data.generated import GENERATED, is_generated, parse
from i2idist.data.layouts import LAYOUTS, read_layout
from i2idist.data.manifest import SCHEMA_VERSION, ImageDomain, Manifest
from i2idist.data.pack import pack
from i2idist.data.reader import Reader
from i2idist.data.settings import choose_domains
from i2idist.experiment import method_class, read_experiment
from i2idist.method import Described
from i2idist.methods import METHODS, check_label_maps
from i2idist.recipe import parse_overrides, recipes

NAMES = list(recipes())
PUBLISHED = [name for name in NAMES if not is_generated(read_experiment(name).data.url)]
CELEBA = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
LABELS = {
    "celeba": CELEBA,
    "color": "black blue brown green grey orange pink purple red white yellow",
    "class-folders": "bedroom bridge church classroom conference dining kitchen living restaurant tower",
    "artworks": "cezanne monet photo ukiyoe vangogh",
    "trainA-trainB-classes": "flat-black flat-red txt-red",
    "morph": "male old african european hispanic asian",
    "morph-gender": "female male",
    "morph-ethnicity": "african european hispanic asian",
}
"""The labels that published datasets have in a layout. Those of digits are digits."""
ATTRIBUTES = ("celeba", "morph")
UNPAIRED = ("trainA-trainB", "trainA-trainB-classes", "mnist-svhn", "mnist-usps", "morph-gender", "morph-ethnicity")
ROOMS = {"rgb": 3, "depth": 1, "segmentation": 1}
MODALITIES = {
    "rgb-d": {"rgb": 3, "depth": 1},
    "scenenet-frames": ROOMS,
    "sun-rgbd": ROOMS,
    "freiburg-forest": ROOMS | {"nir": 1},
    "flowers-opponents": {"theta1": 1, "theta2": 1, "theta3": 3},
}
"""The channels of a layout's modalities."""
ROLES = {"side-by-side": "paired", "folder": "images"} | dict.fromkeys(MODALITIES, "multimodal")
GREY = {"mnist": ("image",), "usps": ("image",), "mnist-svhn": ("a",), "mnist-usps": ("a", "b")}


def manifest(role, channels, label_kind, labels, size=None):
    domains = tuple(ImageDomain(name, count, 8, size, True) for name, count in channels.items())
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name="d",
        role=role,
        domains=domains,
        label_kind=label_kind,
        labels=tuple(labels),
        splits={},
    )


def generated(url):
    """What a generated dataset's manifest says, without making more than a sample of each kind."""
    name, parameters = parse(url)
    generator = GENERATED[name]
    few = generator.samples(replace(parameters, train=2, val=0, test=0))
    channels = {d: np.atleast_3d(image).shape[2] for sample in few for d, image in sample.images.items()}
    labels = generator.labels(parameters)
    size = parameters.size
    return manifest(generator.role, channels, "class" if labels else "none", labels, size)


def packing(name):
    """The `i2idist data pack` command in a recipe's comment, as the command line reads it."""
    text = recipes()[name].read_text()
    comment = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    command = re.search(r"`i2idist data pack ([^`]+)`", comment)
    assert command, "its comment says no `i2idist data pack SRC DEST --layout NAME`"
    return load("data").commands["pack"].make_context("pack", shlex.split(command[1])).params


def published(name):
    """What the manifest of a recipe's dataset says, packed as its comment tells."""
    options = packing(name)
    layout = options["layout"]
    role = ROLES.get(layout, "unpaired" if layout in UNPAIRED else "labelled")
    domains = ("image",) if role in ("labelled", "images") else ("a", "b")
    channels = MODALITIES.get(layout, dict.fromkeys(domains, 3) | dict.fromkeys(GREY.get(layout, ()), 1))
    digits = "0 1 2 3 4 5 6 7 8 9" if "mnist" in layout or layout in ("svhn", "usps") else ""
    labels = LABELS.get(layout, digits).split()
    if options["labels"]:
        chosen = options["labels"].split(",")
        assert set(chosen) <= set(labels)
        labels = chosen
    return manifest(role, channels, "attributes" if layout in ATTRIBUTES else "class" if labels else "none", labels)


SOURCES = {
    "wgan-gp-shapes": "wgan_gp_shapes_small",
    "wgan-gp-shapes-shoe": "wgan_gp_shapes_small",
    "wgan-gp-shapes-bag": "wgan_gp_shapes_small",
    "wgan-gp-lsun-car": "wgan_gp_bedrooms",
    "wgan-gp-lsun-bus": "wgan_gp_bedrooms",
    "wgan-gp-places": "wgan_gp_bedrooms",
}
"""The recipes of registered generators that others start from, where they have another name."""


def domains_of_recipe(name):
    """What a recipe's method is told about its data; for few images, so that it is known how many."""
    experiment = read_experiment(name)
    found = generated(experiment.data.url) if is_generated(experiment.data.url) else published(name)
    names = choose_domains(found, method_class(experiment.method).batch_type(experiment.method.config), experiment.data)
    size = experiment.data.size
    size = (size, size) if isinstance(size, int) else size
    data = experiment.data
    return replace(found.domains_for(size, names, data.label_maps, data.nearest), count=25)


def described(uri):
    """The generator that a recipe's source stands for."""
    model = uri.removeprefix("models:/").partition("@")[0]
    name = SOURCES.get(model, model.replace("-", "_"))
    method = read_experiment(name).method
    return Described(method=method.name, config=asdict(method.config), domains=domains_of_recipe(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_fits_its_data_and_its_networks_can_be_made(name):
    experiment = read_experiment(name)
    check_label_maps(experiment.method.name, domains_of_recipe(name))
    method, config = method_class(experiment.method), experiment.method.config
    if method.generates:
        registered = {key: s.uri for key, s in experiment.sources.items() if s.uri.startswith("models:/")}
        config = method.with_sources(config, {key: described(uri) for key, uri in registered.items()})
    with torch.device("meta"):
        method(config, domains_of_recipe(name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_at_paper_scale_says_how_its_data_is_packed(name):
    options = packing(name)
    assert options["layout"] in LAYOUTS
    assert options["dest"] == read_experiment(name).data.url


def test_every_method_has_recipes_at_paper_scale_and_small():
    found = {name: read_experiment(name) for name in recipes()}
    small = {e.method.name for e in found.values() if is_generated(e.data.url)}
    paper = {e.method.name for e in found.values() if not is_generated(e.data.url)}
    assert (set(METHODS) - small, set(METHODS) - paper) == (set(), set())


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


def test_the_gallery_shows_recipes_in_small_pictures():
    jobs = Path(__file__).parents[2] / "jobs"
    text = (jobs / "README.md").read_text()
    shown = re.findall(r"!\[(\w+)\]\(pictures/(\w+)\.png\)", text)
    assert shown and all(name == picture and name in NAMES and f"| `{name}` |" in text for name, picture in shown)
    assert all((jobs / "pictures" / f"{picture}.png").stat().st_size < 100_000 for _, picture in shown)
