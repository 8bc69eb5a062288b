"""The bags of `generated:textures`: which kinds are where, and that their colour and texture can be seen."""

from collections import Counter

import numpy as np
import pytest

from i2idist.cli import main
from i2idist.data.generated import generate, parse, resolve, textures
from i2idist.data.inspect import stats
from i2idist.data.labelled import read_labelled
from i2idist.data.settings import DataSettings
from i2idist.errors import ConfigError

KINDS = [(colour, texture) for colour in textures.COLOURS for texture in textures.TEXTURES]


def kinds(url, cache, domain):
    """How often each colour and texture is in a pool, by its samples' names."""
    found = read_labelled(DataSettings(url=resolve(url, str(cache))), domain, "train")
    return Counter(tuple(key.split("-")[1:]) for key in found.keys), found


@pytest.mark.parametrize(
    ("query", "a", "b"),
    [
        ("", {("blue", "flat"): 44}, {("red", "textured"): 40, ("red", "flat"): 4}),
        ("&bias=colour", {("red", "flat"): 44}, {("blue", "textured"): 40, ("red", "textured"): 4}),
        ("&ratio=1", {("blue", "flat"): 44}, {("red", "textured"): 22, ("red", "flat"): 22}),
        ("&bias=none", dict.fromkeys(KINDS, 11), dict.fromkeys(KINDS, 11)),
    ],
)
def test_pools_hold_the_kinds_of_table_5_1(query, a, b, tmp_path):
    url = f"generated:textures?train=44&val=0&test=0{query}"
    assert (kinds(url, tmp_path, "a")[0], kinds(url, tmp_path, "b")[0]) == (a, b)


@pytest.mark.parametrize(
    ("label", "names", "of"),
    [
        ("texture", ("flat", "textured"), lambda colour, texture: texture),
        ("colour", ("blue", "red"), lambda colour, texture: colour),
        ("kind", ("flat blue", "textured blue", "flat red", "textured red"), lambda c, t: f"{t} {c}"),
    ],
)
def test_a_label_is_either_attribute_or_both_of_the_same_images(label, names, of, tmp_path):
    url = f"generated:textures?bias=none&train=8&val=0&test=0&label={label}"
    _, found = kinds(url, tmp_path, "b")
    assert [names[y] for y in found.y] == [of(*key.split("-")[1:]) for key in found.keys]
    _, other = kinds(url.replace(f"label={label}", "label=texture"), tmp_path, "b")
    assert found.x.equal(other.x)
    shown = stats(resolve(url, str(tmp_path)))["splits"]["train"]["b"]["labels"]
    assert tuple(shown) == names


def test_colour_is_the_hue_and_texture_leaves_it_alone():
    """The bag's own pixels: red ones have more red than blue by far, many of the textured ones are dark."""
    dark = {}
    for colour, texture in KINDS:
        images = np.stack([textures.bag(("hue", place), (32, 32), colour, texture) for place in range(40)]) / 255.0
        bags = images.max(-1) - images.min(-1) > 0.25  # the floor is grey
        redness = (images[..., 0] - images[..., 2])[bags]
        assert np.mean((redness > 0) == (colour == "red")) > 0.99
        middle = images.max(-1)[:, 14:26, 10:22].reshape(40, -1)
        dark[colour, texture] = np.mean(middle < 0.7 * np.quantile(middle, 0.9, axis=1, keepdims=True), axis=1)
    for colour in textures.COLOURS:
        assert np.median(dark[colour, "textured"]) > 2 * np.median(dark[colour, "flat"])


def test_shape_is_drawn_apart_from_colour_and_texture():
    """The floor and the outline of a bag are the same in all its kinds."""
    for place in range(8):
        bags = [textures.bag((place,), (32, 32), *kind).astype(int) for kind in KINDS]
        outside = [bag.min(-1) > 250 for bag in bags]
        assert all((outside[0] == other).mean() > 0.995 for other in outside[1:])
        assert 0.2 < outside[0].mean() < 0.9


def test_choices_are_part_of_a_dataset_and_refused_when_unknown(tmp_path):
    base = "generated:textures?size=16&train=2&val=0&test=0"
    urls = {resolve(base + more, str(tmp_path)) for more in ("", "&bias=colour", "&ratio=3", "&label=kind")}
    assert len(urls) == 4
    assert parse(base)[1].choices == {"bias": "texture", "ratio": "10", "label": "texture"}
    with pytest.raises(ConfigError, match=r"bias is 'color'.* Did you mean 'colour'"):
        resolve(f"{base}&bias=color", str(tmp_path))
    with pytest.raises(ConfigError, match=r"unknown parameter 'biass'.* Did you mean 'bias'"):
        resolve(f"{base}&biass=colour", str(tmp_path))
    with pytest.raises(ConfigError, match="maps has no choice 'bias'"):
        generate("maps", str(tmp_path / "maps"), choices={"bias": "colour"})


def test_the_command_line_chooses(tmp_path, capsys):
    arguments = ["data", "generate", "textures", str(tmp_path / "d"), "--train", "2", "--val", "0", "--test", "0"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--choose", "label=kind", "--choose", "bias=none", "--json"])
    assert not stop.value.code
    assert '"flat blue"' in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--choose", "label"])
    assert stop.value.code
    assert "KEY=VALUE" in capsys.readouterr().err
