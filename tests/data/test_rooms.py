"""The rooms of `generated:rooms`: that their modalities agree, and what each knows that others don't."""

import dataclasses
import math
import time
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from i2idist.data.generated import GENERATED, generate, parse, resolve, rooms
from i2idist.data.generated._casting import Body, Camera, interval, lit, normals, visible
from i2idist.data.generated._draws import rng_of
from i2idist.data.generated._roomplan import furnished
from i2idist.data.modalities import DEPTH_METRES
from i2idist.errors import ConfigError

SIZE = (48, 48)
FLOOR, WALL, CEILING = (rooms.CLASSES.index(name) for name in ("floor", "wall", "ceiling"))


@cache
def view(place: int) -> rooms.Views:
    return rooms.views(("tests", place), SIZE)


def levels(place: int) -> np.ndarray:
    return view(place).segmentation


# --- casting


def camera(eye=(0.0, -5.0, 0.0), target=(0.0, 0.0, 0.0), size=(41, 41)):
    return Camera.looking(eye, target, math.radians(60), size)


def marched(body: Body, eye: np.ndarray, ray: np.ndarray) -> float | None:
    """The first place along a ray that lies in a body, by small steps; None if there is none."""
    c, s = math.cos(body.yaw), math.sin(body.yaw)
    t = np.arange(0.0, 12.0, 0.002)
    x, y, z = (eye + t[:, None] * ray - body.centre).T
    unit = np.stack([c * x + s * y, c * y - s * x, z]) / np.array(body.half)[:, None]
    inside = {
        "box": np.abs(unit).max(0) <= 1,
        "ellipsoid": (unit**2).sum(0) <= 1,
        "cylinder": ((unit[:2] ** 2).sum(0) <= 1) & (np.abs(unit[2]) <= 1),
    }[body.shape]
    return float(t[inside.argmax()]) if inside.any() else None


@pytest.mark.parametrize("shape", ["box", "cylinder", "ellipsoid"])
def test_rays_meet_bodies_where_small_steps_do(shape):
    body = Body(shape, (0.3, 0.2, -0.1), (0.9, 0.5, 0.7), 0, yaw=0.6)
    eye = np.array([0.4, -4.0, 1.1], dtype=np.float32)
    draws = np.random.default_rng(0)
    rays = (np.array(body.centre)[:, None] - eye[:, None] + draws.normal(0, 0.7, (3, 60))).astype(np.float32) / 4
    enter, leave = interval(body, eye, rays)
    found = [marched(body, eye.astype(float), ray.astype(float)) for ray in rays.T]
    hits = np.array([t is not None for t in found])
    sure = np.abs(leave - enter) > 0.05
    assert 10 < hits.sum() < 55
    assert ((enter < leave) == hits)[sure].all()
    near = np.array([t if t is not None else 0.0 for t in found])
    assert np.abs(enter - near)[hits & sure].max() < 0.004


def test_the_nearest_body_is_seen_in_its_outline_and_culling_loses_nothing():
    hollow = Body("box", (0.0, 0.0, 0.0), (20.0, 20.0, 20.0), 0)
    ball = Body("ellipsoid", (0.5, 0.0, 0.3), (0.8, 0.8, 0.8), 1)
    wall = Body("box", (0.0, 2.0, 0.0), (1.5, 0.1, 1.0), 2)
    behind = Body("box", (0.0, -9.0, 0.0), (1.0, 1.0, 1.0), 3)
    around = Body("box", (2.2, -5.0, 0.0), (0.5, 9.0, 0.2), 4)  # from before the camera to behind it
    bodies, cam = [hollow, ball, wall, behind, around], camera()
    depth, seen = visible(bodies, cam)
    enters = np.stack([np.where(a < b, a, np.inf) for a, b in (interval(x, cam.eye, cam.rays()) for x in bodies[1:])])
    enters[enters < 0.02] = np.inf
    assert np.array_equal(seen, np.where(np.isinf(enters.min(0)), 0, enters.argmin(0) + 1))
    assert set(np.unique(seen)) == {0, 1, 2, 4}
    hit = seen > 0
    np.testing.assert_allclose(depth[hit], enters.min(0)[hit], rtol=1e-6)
    away = (np.array(ball.centre) - cam.eye)[:, None, None] - cam.rays() * (depth * (seen == 1))
    assert np.abs(np.sqrt((away**2).sum(0)) - 0.8)[seen == 1].max() < 1e-3


def test_normals_point_out_of_bodies_and_into_the_room():
    hollow = Body("box", (0.0, 0.0, 0.0), (6.0, 6.0, 6.0), 0)
    bodies = [
        hollow,
        Body("box", (-1.2, 0.0, 0.0), (0.6, 0.6, 0.6), 1, yaw=0.5),
        Body("cylinder", (1.2, 0, 0), (0.6,) * 3, 1),
    ]
    cam = camera(eye=(0.2, -4.0, 1.5))
    depth, seen = visible(bodies, cam)
    points = cam.eye[:, None, None] + cam.rays() * depth
    found, _ = normals(bodies, seen, points)
    np.testing.assert_allclose((found**2).sum(0), 1, rtol=1e-4)
    assert ((cam.rays() * found).sum(0) < 1e-4).all(), "what is seen faces the camera"
    on_box = found[:, seen == 1]
    c, s = math.cos(0.5), math.sin(0.5)
    faces = np.array([[c, s, 0], [-c, -s, 0], [-s, c, 0], [s, -c, 0], [0, 0, 1.0]])
    assert (np.abs(faces @ on_box - 1).min(0) < 1e-4).all()


def test_shadows_fall_behind_what_blocks():
    hollow = Body("box", (0.0, 0.0, 0.0), (9.0, 9.0, 9.0), 0)
    lamp = np.array([0.0, 0.0, 4.0], dtype=np.float32)
    blocker = Body("box", (0.0, 0.0, 2.0), (0.5, 0.5, 0.1), 1)
    x = np.linspace(-3, 3, 61, dtype=np.float32)
    points = np.stack([x, 0 * x, 0 * x])
    light = lit([hollow, blocker], lamp, points)
    edge = 0.5 / (4 - 2.1) * 4
    assert np.array_equal(light, np.abs(x) > edge)
    assert lit([hollow, dataclasses.replace(blocker, blocks=False)], lamp, points).all()


# --- what the modalities show


def test_depth_is_that_of_planes_where_floor_and_ceiling_are_seen():
    """Back in space, every pixel of the floor lies at height 0 and every one of the ceiling at the room's height."""
    for place in range(12):
        scene = furnished(rng_of("tests", place, "room"))
        shown, cam = view(place), scene.camera((SIZE[0] * 2, SIZE[1] * 2))
        metres = shown.depth / 65535 * DEPTH_METRES
        z = cam.eye[2] + cam.rays()[2, 1::2, 1::2] * metres
        assert np.abs(z[shown.segmentation == FLOOR]).max() < 0.02
        height = 2 * scene.bodies[0].half[2]
        roof = z[shown.segmentation == CEILING]
        assert roof.size == 0 or np.abs(roof - height).max() < 2e-3
        assert metres.min() > 0.1 and metres.max() < DEPTH_METRES - 1


def test_every_class_is_seen_and_none_fills_the_rooms():
    shown = np.stack([levels(place) for place in range(60)])
    share = np.bincount(shown.ravel(), minlength=len(rooms.CLASSES)) / shown.size
    assert share.min() > 0.002 and share.max() < 0.45
    seen = np.array([[(one == kind).any() for kind in range(len(rooms.CLASSES))] for one in shown]).mean(0)
    assert seen.min() > 0.25
    assert share[3:].sum() > 0.25, "rooms are furnished"


def pixels_of(places: range, *features: str) -> tuple[np.ndarray, np.ndarray]:
    """For a forest: each pixel's values, those of neighbourhoods, and its place; and its class."""
    rows, answers = [], []
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for place in places:
        shown, columns = view(place), []
        for name in features:
            values = np.atleast_3d(getattr(shown, name)).astype(np.float32)
            columns += [values, *(ndimage.uniform_filter(values, (n, n, 1)) for n in (3, 9))]
            columns += [ndimage.shift(values, (dy, dx, 0), order=0, mode="nearest") for dy, dx in ((6, 0), (-6, 0))]
        rows.append(
            np.concatenate([*columns, y[..., None], x[..., None]], 2).reshape(-1, sum(c.shape[2] for c in columns) + 2)
        )
        answers.append(shown.segmentation.ravel())
    return np.concatenate(rows), np.concatenate(answers)


@cache
def forest_accuracy(*features: str) -> tuple[float, float]:
    """A small forest's accuracy and mean recall over classes on rooms that it wasn't trained on."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import balanced_accuracy_score

    forest = RandomForestClassifier(10, max_depth=14, min_samples_leaf=5, max_samples=20000, random_state=0)
    forest.fit(*pixels_of(range(45), *features))
    values, answers = pixels_of(range(45, 60), *features)
    found = forest.predict(values)
    return float((found == answers).mean()), float(balanced_accuracy_score(answers, found))


def test_depth_tells_the_layout_but_not_everything():
    accuracy, recall = forest_accuracy("depth")
    chance = max(np.bincount(np.concatenate([levels(place).ravel() for place in range(45, 60)]))) / 48**2 / 15
    assert accuracy > chance + 0.2
    assert 1.5 / 12 < recall < 0.6


def test_one_colour_doesnt_tell_the_class():
    """The mean colours of any two kinds of furniture lie nearer than those of one kind are spread."""
    means: dict[int, list[np.ndarray]] = {}
    for place in range(60):
        for kind in np.unique(levels(place)):
            mask = levels(place) == kind
            if mask.sum() > 20:
                means.setdefault(int(kind), []).append(view(place).rgb[mask].mean(0))
    standing = [means[rooms.CLASSES.index(name)] for name in ("bed", "table", "chair", "sofa", "cabinet")]
    spread = np.mean([np.std(found, 0) for found in standing])
    assert spread > 25
    assert np.ptp([np.mean(found, 0) for found in standing], axis=0).max() < spread


def unrest(image: np.ndarray, mask: np.ndarray) -> float:
    return float(np.std(ndimage.laplace(image.astype(float))[ndimage.binary_erosion(mask, iterations=2)]))


def test_infrared_sees_glass_dark_and_no_patterns():
    window, bed = (rooms.CLASSES.index(name) for name in ("window", "bed"))
    panes = [np.percentile(view(p).nir[levels(p) == window], 20) for p in range(60) if (levels(p) == window).sum() > 60]
    walls = [np.median(view(p).nir[levels(p) == WALL]) for p in range(60)]
    assert np.median(panes) < 0.5 * np.median(walls)
    beds = [p for p in range(60) if ndimage.binary_erosion(levels(p) == bed, iterations=2).sum() > 40]
    visible_, infrared = ([unrest(image(view(p)), levels(p) == bed) for p in beds] for image in (grey, lambda v: v.nir))
    assert np.median(visible_) > 1.4 * np.median(infrared)
    assert np.max(visible_) > 2 * np.max(infrared)


def grey(shown: rooms.Views) -> np.ndarray:
    return shown.rgb.astype(float).mean(-1)


# --- the dataset


@pytest.mark.parametrize(
    ("seen", "train", "every"),
    [
        ("depth,segmentation", ["rgb depth", "rgb segmentation"], "rgb depth segmentation"),
        ("depth-nir,segmentation", ["rgb depth nir", "rgb segmentation"], "rgb depth segmentation nir"),
        ("depth,segmentation,nir", ["rgb depth", "rgb segmentation", "rgb nir"], "rgb depth segmentation nir"),
        ("all", ["rgb depth segmentation nir"], "rgb depth segmentation nir"),
    ],
)
def test_training_sees_pairs_of_rooms_of_their_own_and_tests_see_all(seen, train, every):
    parameters = parse(f"generated:rooms?size=16&train=6&val=1&test=2&seen={seen}")[1]
    found = {(s.split, s.key): s.images for s in GENERATED["rooms"].samples(parameters)}
    assert [" ".join(found["train", f"{n:06d}"]) for n in range(6)] == [train[n % len(train)] for n in range(6)]
    assert {" ".join(images) for (split, _), images in found.items() if split != "train"} == {every}
    pictures = {images["rgb"].tobytes() for images in found.values()}
    assert len(pictures) == len(found), "no room is in two samples"


def test_the_manifest_names_the_classes_and_says_what_is_incomplete(tmp_path):
    manifest = generate("rooms", str(tmp_path / "d"), size=16, train=4, val=1, test=1)
    assert [(d.name, d.channels, d.bits, d.complete) for d in manifest.domains] == [
        ("rgb", 3, 8, True), ("depth", 1, 16, False), ("segmentation", 1, 8, False),
    ]  # fmt: skip
    assert manifest.labels == rooms.CLASSES and manifest.label_kind == "none"


def test_an_unknown_choice_of_pairs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="seen is 'depth', which is none of"):
        resolve("generated:rooms?seen=depth", str(tmp_path))


def test_equal_rooms_at_any_size():
    small, large = view(3), rooms.views(("tests", 3), (96, 96))
    same = large.segmentation[1::2, 1::2] == small.segmentation
    assert same.mean() > 0.9
    wide = rooms.views(("tests", 3), (32, 64))
    assert wide.rgb.shape == (32, 64, 3) and wide.depth.shape == wide.segmentation.shape == wide.nir.shape == (32, 64)


def test_two_thousand_rooms_take_half_a_minute():
    """The best of some: others use this core, too."""
    times = []
    for part in range(6):
        start = time.process_time()
        for place in range(8):
            rooms.views(("speed", part, place), SIZE)
        times.append((time.process_time() - start) / 8)
    assert min(times) < 30 / 2000 * 1.5
