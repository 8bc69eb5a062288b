import colorsys
import hashlib
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.datasets import load_digits
from torch import nn

from i2idist.data.batches import Labelled, Paired, Unpaired
from i2idist.data.generated import (
    GENERATED,
    Parameters,
    digits,
    edges,
    generate,
    maps,
    opponents,
    parse,
    resolve,
    rooms,
    shapes,
)
from i2idist.data.generated._draws import luma, rng_of
from i2idist.data.manifest import load_manifest
from i2idist.data.pack import Sample
from i2idist.data.reader import DataSettings, Reader
from i2idist.errors import ConfigError, DataError, StorageError

SMALL = {"train": 6, "val": 2, "test": 3}


def small(**changes: object) -> Parameters:
    return replace(Parameters(size=(32, 32), seed=0, **SMALL), **changes)


def samples_of(name: str, parameters: Parameters) -> Iterator[Sample]:
    """With the choices that are the default."""
    return GENERATED[name].samples(replace(parameters, choices=parse(f"generated:{name}")[1].choices))


def pixels(name: str, parameters: Parameters) -> dict[tuple[str, str, str], bytes]:
    samples = samples_of(name, parameters)
    return {(s.split, s.key, d): i.tobytes() for s in samples for d, i in s.images.items()}


# --- handwritten digits


def test_scan_splits_are_disjoint_complete_and_balanced():
    split = {name: digits.scans_of(name) for name in digits.SCANS}
    assert {name: len(scans) for name, scans in split.items()} == {"train": 1297, "val": 100, "test": 400}
    assert sorted(np.concatenate(list(split.values()))) == list(range(1797))
    for scans in split.values():
        counts = np.bincount(load_digits().target[scans], minlength=10)
        assert counts.min() >= 0.85 * len(scans) / 10
    assert np.bincount(load_digits().target[split["train"][:100]], minlength=10).min() >= 8


def test_no_scan_is_stored_twice_under_two_numbers():
    """Disjoint numbers would not help if the collection held copies."""
    images = load_digits().images.reshape(1797, -1)
    assert len(np.unique(images, axis=0)) == 1797


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (130, 50)])
def test_handwritten_shows_its_scan(size):
    bunch = load_digits()
    height, width = size
    tall = digits.DIGIT_HEIGHT * min(size)
    rows = np.clip(np.floor((np.arange(height) + 0.5 - height / 2) / tall * 8 + 4), -1, 8).astype(int)
    cols = np.clip(np.floor((np.arange(width) + 0.5 - width / 2) / tall / 1.1 * 8 + 4), -1, 8).astype(int)
    for scan in (0, 7, 500, 1796):
        image, digit = digits.handwritten(scan, size)
        assert image.shape == size and image.dtype == np.uint8
        assert digit == bunch.target[scan]
        back = [[image[np.ix_(rows == r, cols == c)].mean() for c in range(8)] for r in range(8)]
        assert np.corrcoef(np.ravel(back), bunch.images[scan].ravel())[0, 1] > 0.9
        assert np.mean((image < 40) | (image > 215)) > 0.8, "strokes are blurred"


# --- street digits


def test_street_colours_contrast():
    for draw in range(300):
        ink, ground = digits.colours(rng_of("contrast", draw))
        assert abs(luma(ink) - luma(ground)) >= digits.MIN_CONTRAST


@pytest.mark.parametrize("size", [(32, 32), (48, 80)])
def test_street_digit_stands_in_the_middle_at_the_size_of_a_handwritten_one(size):
    """Against the border's colour, ink fills the middle and about as many rows as a scan does."""
    height, width = size
    rows = []
    for draw in range(40):
        image, digit = digits.street(rng_of("place", draw), size)
        assert image.shape == (*size, 3) and 0 <= digit <= 9
        grey = ndimage.gaussian_filter(luma(image.astype(np.float32) / 255), 0.7)
        ground = np.median(np.concatenate([grey[:3].ravel(), grey[-3:].ravel()]))
        middle = np.abs(grey - ground)[:, width // 2 - height // 4 : width // 2 + height // 4] > 0.17
        rows.append(np.ptp(np.flatnonzero(middle.any(1))) + 1)
    assert 0.85 < np.mean(rows) / (digits.DIGIT_HEIGHT * min(size)) < 1.15


def as_tensors(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*(digits.street(rng_of("cnn", split, i), (32, 32)) for i in range(count)), strict=True)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1, torch.tensor(labels)


def test_a_small_network_reads_held_out_street_digits_and_most_handwriting():
    torch.manual_seed(0)
    x, y = as_tensors("train", 1500)
    unseen, answers = as_tensors("test", 400)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 12), (12, 24), (24, 48)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(768, 10))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(8):
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
    network.eval()
    scans, written = zip(*(digits.handwritten(int(scan), (32, 32)) for scan in digits.scans_of("val")), strict=True)
    white_on_black = torch.from_numpy(np.stack(scans))[:, None].expand(-1, 3, -1, -1).float() / 127.5 - 1
    with torch.no_grad():
        accuracy = (network(unseen).argmax(1) == answers).double().mean().item()
        shared = (network(white_on_black).argmax(1) == torch.tensor(written)).double().mean().item()
    assert accuracy >= 0.97
    assert shared >= 0.75, "a translator that changes colours alone should keep the digit"


@pytest.mark.parametrize(("only", "digits_of"), [("9", {9}), ("no-9", set(range(9)))])
def test_some_digits_alone(only, digits_of):
    """The same splits, fewer digits: what a generator is to learn that never saw a 9."""
    parameters = parse(f"generated:digits?only={only}&train=150&val=100&test=0")[1]
    found = list(GENERATED["digits"].samples(parameters))
    for domain in "ab":
        assert {s.label for s in found if domain in s.images} == digits_of
    every = list(GENERATED["digits"].samples(parse("generated:digits?train=2000&val=100&test=0")[1]))
    scans = {(s.split, s.images["a"].tobytes()) for s in every if "a" in s.images}
    assert {(s.split, s.images["a"].tobytes()) for s in found if "a" in s.images} <= scans
    assert sum("b" in s.images for s in found) == 250


# --- edges <-> objects


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (256, 256)])
def test_edges_lie_on_their_object(size):
    for place in range(8):
        lines, painted, label = edges.pair(("edges", place), size)
        assert lines.shape == size and painted.shape == (*size, 3)
        assert 0 <= label < len(edges.FAMILIES)
        coloured = np.ptp(painted, 2) > 24
        objects = ndimage.binary_fill_holes(coloured | (painted.max(2) < 150))
        drawn = lines < 160
        assert 0.01 < drawn.mean() < 0.35
        assert (drawn & ndimage.binary_dilation(objects, iterations=2)).sum() > 0.9 * drawn.sum()
        outline = objects & ~ndimage.binary_erosion(objects)
        assert (ndimage.binary_dilation(drawn, iterations=2) & outline).sum() > 0.9 * outline.sum()


def test_one_drawing_has_many_colourings_and_they_share_its_shape():
    first, painted, label = edges.pair(("car", 1), (64, 64))
    others = [edges.pair(("car", 1), (64, 64), colouring) for colouring in range(1, 6)]
    assert all(np.array_equal(lines, first) and found == label for lines, _, found in others)
    shape = painted.min(2) < 150
    for (_, one, _), (_, two, _) in itertools.combinations([(0, painted, 0), *others], 2):
        assert np.abs(one[shape].astype(int) - two[shape]).mean() > 5
        white = ~ndimage.binary_dilation(shape, iterations=8)
        assert np.abs(one[white].astype(int) - two[white]).max() <= 3


def test_every_family_occurs():
    assert {edges.pair(("family", place), (16, 16))[2] for place in range(30)} == set(range(len(edges.FAMILIES)))


# --- satellite <-> map


def test_map_colours_can_be_told_apart_at_a_tolerance_of_16():
    for one, two in itertools.combinations(maps.PALETTE.values(), 2):
        assert max(abs(a - b) for a, b in zip(one, two, strict=True)) > 32


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (150, 100)])
def test_maps_hold_their_palette_and_show_the_classes(size):
    colours = np.array(list(maps.PALETTE.values()))
    share = np.zeros(len(colours))
    for place in range(12):
        photo, plan, classes = maps.pair(("town", place), size)
        assert photo.shape == plan.shape == (*size, 3)
        assert np.array_equal(plan, colours[classes])
        share += np.bincount(classes.ravel(), minlength=len(colours)) / classes.size / 12
    assert share.min() > 0.02 and share.max() < 0.7


def test_a_photograph_determines_its_map():
    """Colour alone, of a pixel and of its neighbourhood, already tells most classes."""
    from sklearn.ensemble import RandomForestClassifier

    def pixels_of(places: range) -> tuple[np.ndarray, np.ndarray]:
        features, answers = [], []
        for place in places:
            photo, _, classes = maps.pair(("forest", place), (48, 48))
            near = ndimage.uniform_filter(photo.astype(float), (3, 3, 0))
            features.append(np.concatenate([photo, near], 2).reshape(-1, 6))
            answers.append(classes.ravel())
        return np.concatenate(features), np.concatenate(answers)

    forest = RandomForestClassifier(12, max_depth=12, random_state=0).fit(*pixels_of(range(4)))
    assert forest.score(*pixels_of(range(50, 53))) > 0.8


# --- objects of four colours


def hues(image: np.ndarray) -> np.ndarray:
    """Hues in turns of the strongly coloured pixels."""
    strong = image[np.ptp(image, 2) > 80].astype(float) / 255
    return np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in strong])


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_a_label_is_the_hue_of_the_object_and_its_shades_differ(size):
    for label, hue in enumerate(shapes.COLOURS.values()):
        pictures = [shapes.picture(("hue", place), size, label)[0] for place in range(20)]
        found = [hues(picture) for picture in pictures]
        away = np.concatenate([(one - hue + 0.5) % 1 - 0.5 for one in found])
        assert np.mean(np.abs(away) < shapes.HUE_SPREAD + 0.03) > 0.9
        shades = [picture[np.ptp(picture, 2) > 80].mean(0) for picture in pictures if (np.ptp(picture, 2) > 80).any()]
        assert np.std(shades, 0).max() > 25


def test_the_same_object_in_another_colour_keeps_its_outline_and_floor():
    for place in range(8):
        pictures, families = zip(*(shapes.picture(("car", place), (48, 48), label) for label in range(4)), strict=True)
        assert len(set(families)) == 1
        varies = np.ptp(np.stack(pictures).astype(int), 0).max(2) > 12
        inside = ndimage.binary_dilation(ndimage.binary_fill_holes(varies), iterations=3)
        assert 0.1 < varies.mean() < 0.6
        assert np.ptp(np.stack(pictures).astype(int), 0)[~inside].max() <= 6
        again = shapes.picture(("car", place), (48, 48), 0, shade=1)[0]
        assert np.abs(again.astype(int) - pictures[0])[varies].mean() > 5


def test_labels_are_balanced_and_every_family_has_every_colour():
    samples = list(samples_of("shapes", small(train=400, val=0, test=0)))
    assert np.bincount([sample.label for sample in samples]).tolist() == [100] * 4
    found = {(shapes.picture((0, "shapes", "train", n), (16, 16), n % 4)[1], n % 4) for n in range(120)}
    assert len(found) == 16


# --- determinism


@pytest.mark.parametrize("name", GENERATED)
def test_more_samples_leave_the_first_ones_alone(name):
    few, many = pixels(name, small()), pixels(name, small(train=9))
    assert few == {key: many[key] for key in few} and len(many) > len(few)


@pytest.mark.parametrize("name", GENERATED)
def test_seeds_splits_and_places_give_different_images(name):
    images = pixels(name, small())
    assert len(set(images.values())) == len(images)
    other = pixels(name, small(seed=1))
    same = {key for key in images if images[key] == other[key]}
    assert same == ({key for key in images if key[2] == "a"} if name == "digits" else set()), "scans have no seed"


ASK = """
import pathlib, sys, time
from i2idist.data.generated import GENERATED, resolve
here = pathlib.Path(sys.argv[1])
(here / "ready").touch()
while not (here / "go").exists():
    time.sleep(0.001)
for name in GENERATED:
    print(resolve(f"generated:{name}?train=40&val=2&test=3&seed=5", sys.argv[1] + "/cache"))
"""


def test_two_processes_that_ask_at_once_get_one_whole_dataset_equal_to_one_made_alone(tmp_path):
    cache = tmp_path / "cache"
    other = subprocess.Popen([sys.executable, "-c", ASK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "ready").exists() and other.poll() is None:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    mine = [resolve(f"generated:{name}?train=40&val=2&test=3&seed=5", str(cache)) for name in GENERATED]
    theirs = other.communicate(timeout=120)[0].split()
    assert other.returncode == 0 and mine == theirs
    assert sorted(p.name for p in cache.iterdir()) == sorted(Path(url).name for url in mine)
    for name, made in zip(GENERATED, mine, strict=True):
        alone = generate(name, str(tmp_path / f"alone-{name}"), train=40, val=2, test=3, seed=5)
        assert load_manifest(made) == alone
        for shard in (shard for pools in alone.splits.values() for pool in pools for shard in pool.shards):
            assert hashlib.sha256((Path(made) / shard.name).read_bytes()).hexdigest() == shard.sha256


# --- packing and URLs


def test_packed_datasets_say_what_they_hold(tmp_path):
    shown = {}
    for name in GENERATED:
        seen: list[int] = []
        manifest = generate(name, str(tmp_path / name), size=(20, 24), **SMALL, seed=2, progress=seen.append)
        pools = 2 if manifest.role == "unpaired" else 1
        assert seen == list(range(1, sum(SMALL.values()) * pools + 1))
        assert all(domain.size == (20, 24) for domain in manifest.domains)
        assert all(domain.bits == (16 if domain.name == "depth" else 8) for domain in manifest.domains)
        counts = {split: [pool.count for pool in pools] for split, pools in manifest.splits.items()}
        channels = [domain.channels for domain in manifest.domains]
        shown[name] = (manifest.name, manifest.role, channels, manifest.labels, counts)
    pools = {split: [n, n] for split, n in SMALL.items()}
    pairs = {split: [n] for split, n in SMALL.items()}
    assert shown == {
        "digits": ("digits", "unpaired", [1, 3], tuple("0123456789"), pools),
        "edges": ("edges", "paired", [1, 3], ("shoe", "bag", "vase", "car"), pairs),
        "maps": ("maps", "paired", [3, 3], (), pairs),
        "opponents": ("opponents", "multimodal", [1, 1, 3], opponents.PHOTOGRAPHS, pairs),
        "rooms": ("rooms", "multimodal", [3, 1, 1], rooms.CLASSES, pairs),
        "shapes": ("shapes", "labelled", [3], ("red", "yellow", "green", "blue"), pairs),
        "textures": ("textures", "unpaired", [3, 3], ("flat", "textured"), pools),
    }


@pytest.mark.parametrize(
    ("name", "role"), [("digits", Unpaired), ("edges", Paired), ("maps", Paired), ("maps", Unpaired)]
)
def test_a_reader_gets_the_generated_images(name, role, tmp_path):
    url = resolve(f"generated:{name}?size=32&train=6&val=2&test=3", str(tmp_path))
    reader = Reader(
        DataSettings(url=url, split="test"),
        role=role, batch_size=3, group_size=1, rank=0, world_size=1, seed=0, shuffle=False,
    )  # fmt: skip
    batch = next(reader.batches())
    test = [sample.images for sample in samples_of(name, small()) if sample.split == "test"]
    for field in "ab":
        images = [shown[field] for shown in test if field in shown]
        got = (vars(batch)[field] * 127.5 + 127.5).round().to(torch.uint8).numpy()
        assert np.array_equal(got, np.stack([np.atleast_3d(image).transpose(2, 0, 1) for image in images]))
    reader.close()


def test_a_reader_gets_the_shapes_with_their_colours(tmp_path):
    settings = DataSettings(url=resolve("generated:shapes?train=8&val=0&test=0", str(tmp_path)))
    reader = Reader(settings, role=Labelled, batch_size=8, group_size=1, rank=0, world_size=1, seed=0, shuffle=False)
    batch = next(reader.batches())
    reader.close()
    assert batch.y.tolist() == [0, 1, 2, 3] * 2
    first = (batch.x[0] * 127.5 + 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(first, next(samples_of("shapes", small())).images["image"])


def test_digits_never_offer_more_scans_than_there_are(tmp_path):
    manifest = generate("digits", str(tmp_path / "d"), size=16, train=0, val=120, test=0)
    assert [(pool.domains, pool.count) for pool in manifest.splits["val"]] == [(("a",), 100), (("b",), 120)]
    assert list(manifest.splits) == ["val"]


def test_parse_reads_every_parameter_and_fills_in_defaults():
    assert parse("generated:edges") == ("edges", Parameters(size=(32, 32), seed=0, **GENERATED["edges"].counts))
    url = "generated:maps?size=64x96&train=5&val=0&test=7&seed=3"
    assert parse(url) == ("maps", Parameters(size=(64, 96), train=5, val=0, test=7, seed=3))
    assert parse("generated:digits?size=48")[1].size == (48, 48)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("generated:digit", r"'digit'.* Did you mean 'digits'\?"),
        ("generated:", "no generated dataset ''"),
        ("generated:digits?sise=32", r"'sise'.* Did you mean 'size'\?"),
        ("generated:digits?size=32&size=64", "'size' twice"),
        ("generated:digits?size=big", "size is 'big'.*size=64x96"),
        ("generated:digits?size=32x", "size is ''"),
        ("generated:digits?train=-5", "train is '-5'"),
        ("generated:digits?train=", "train is ''"),
        ("generated:digits?size=8", "8x8.*16 to 2048"),
        ("generated:digits?size=32x5000", "32x5000.*16 to 2048"),
        ("generated:digits?train=0&val=0&test=0", "every split is empty"),
    ],
)
def test_urls_that_mean_nothing_are_refused_and_nothing_is_made(url, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        resolve(url, str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_generate_refuses_what_cannot_be_made(tmp_path):
    with pytest.raises(ConfigError, match="seed is -1"):
        generate("digits", str(tmp_path / "x"), seed=-1)
    with pytest.raises(ConfigError, match="Did you mean 'maps'"):
        generate("map", str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()
    generate("maps", str(tmp_path / "x"), size=16, train=1, val=0, test=0)
    with pytest.raises(DataError, match="already"):
        generate("maps", str(tmp_path / "x"), size=16, train=1, val=0, test=0)


def test_each_parameter_has_its_own_folder_and_a_second_call_makes_nothing(tmp_path):
    base = "generated:maps?size=16&train=1&val=0&test=0&seed=0"
    first = resolve(base, str(tmp_path))
    before = (Path(first) / "manifest.json").stat()
    assert resolve(base, str(tmp_path)) == first
    assert resolve("generated:maps?test=0&seed=0&val=0&train=1&size=16x16", f"file://{tmp_path}") == first
    assert (Path(first) / "manifest.json").stat().st_mtime_ns == before.st_mtime_ns
    changed = ["size=16x17", "train=2", "val=1", "test=1", "seed=1"]
    assert len(changed) == len(fields(Parameters)) - 1, "maps has no choices"
    values = dict(part.split("=") for part in base.split("?")[1].split("&"))
    urls = {base}
    for change in changed:
        key, value = change.split("=")
        urls.add("generated:maps?" + "&".join(f"{k}={v}" for k, v in {**values, key: value}.items()))
    assert len({resolve(url, str(tmp_path)) for url in urls}) == len(urls) == 6
    assert len(list(tmp_path.iterdir())) == 6


def test_a_cut_off_pack_leaves_nothing_behind(tmp_path):
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve("generated:maps?size=16&train=3", str(tmp_path), progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_pack_that_cannot_be_put_in_place_is_removed_and_reported(tmp_path):
    url = "generated:maps?size=16&train=2&val=0&test=0"
    place = Path(resolve(url, str(tmp_path / "other"))).name
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / place).symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match=f"{place}.* Remove what is there"):
        resolve(url, str(tmp_path / "cache"))
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [place]


@pytest.mark.parametrize("url", ["s3://team/data/photos", "/data/photos", "photos"])
def test_other_urls_pass_through(url, tmp_path):
    assert resolve(url, str(tmp_path / "cache")) == url
    assert not (tmp_path / "cache").exists()


def test_a_thousand_street_digits_take_seconds():
    start = time.process_time()
    for place in range(300):
        digits.street(rng_of("speed", place), (32, 32))
    assert time.process_time() - start < 3.0


def test_workers_that_draw_nothing_dont_import_what_draws():
    """Scikit-learn, SciPy and matplotlib take seconds to import, at the start of every worker."""
    program = (
        "import sys, i2idist.data.generated\n"
        "print([name for name in ('sklearn', 'scipy', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("families", "shares"),
    [("car", {3: 1.0}), ("no-car", {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}), ("3-shoes-of-10", {0: 0.3, 1: 0.7})],
)
def test_shapes_come_in_families_of_known_shares(families, shares):
    url = f"generated:shapes?size=16&families={families}&label=family&train=30&val=0&test=0"
    name, parameters = parse(url)
    labels = [sample.label for sample in GENERATED[name].samples(parameters)]
    assert GENERATED[name].labels(parameters) == tuple(edges.FAMILIES)
    assert {label: labels.count(label) / 30 for label in set(labels)} == pytest.approx(shares)


def test_a_family_is_painted_in_the_colour_of_its_place():
    """Asking for its own family changes nothing of an object."""
    image, family = shapes.picture((0, "shapes", "train", 5), (16, 16), 1)
    again, _ = shapes.picture((0, "shapes", "train", 5), (16, 16), 1, family=list(edges.FAMILIES)[family])
    assert np.array_equal(image, again)
