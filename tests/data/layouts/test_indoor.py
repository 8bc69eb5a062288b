"""SceneNet RGB-D and SUN RGB-D in tiny files of the published layouts."""

import numpy as np
import pytest

from i2idist import storage
from i2idist.data.layouts import read_layout
from i2idist.data.modalities import NYU_13, VOID
from i2idist.errors import ConfigError, DataError, SampleError, StorageError
from tests.data.layouts.support import contents, packed, save
from tests.data.layouts.test_colors import field, varint
from tests.data.samples import picture

TABLE = """wnid     name          13_classes
2818832  bed.n.01      Bed
4546855  wall.n.01     Wall
20000041 workshoptable Table
"""


FRAMES = (0, 25, 750)


def instance(number, wordnet):
    found = varint(1 << 3) + varint(number)
    return found + (field(2, wordnet.encode()) + field(3, b"name") if wordnet else b"") + varint(4 << 3) + varint(2)


def trajectory(path, instances):
    """With a layout and views, which hold floats, as published ones have."""
    layout = field(1, varint(1 << 3) + varint(2))
    pose = field(2, varint(3 << 3 | 5) + b"\0\0\x80\x3f")
    views = b"".join(field(3, varint(1 << 3) + varint(frame) + pose) for frame in FRAMES)
    parts = b"".join(field(2, instance(n, wordnet)) for n, wordnet in instances.items())
    return field(1, layout + parts + views + field(4, path.encode()))


@pytest.fixture
def scenenet(tmp_path):
    src = tmp_path / "src"
    for number, (split, path) in enumerate((("train", "0/7"), ("train", "0/8"), ("train", "1/2000"), ("val", "0/7"))):
        for frame in FRAMES:
            save(src, f"{split}/{path}/photo/{frame}.jpg", picture(number, size=(4, 6)))
            depth = np.array([[0, 1000, 2500, 10000, 20000, 65535]] * 4, dtype=np.uint16) + frame // 25 * 10
            save(src, f"{split}/{path}/depth/{frame}.png", depth)
            save(src, f"{split}/{path}/instance/{frame}.png", np.array([[0, 1, 2, 3, 300, 1]] * 4, dtype=np.uint16))
    known = {0: "", 1: "02818832", 2: "04546855", 300: "20000041"}
    swapped = known | {1: "04546855", 2: "02818832"}
    (src / "wnid_to_class.txt").write_text(TABLE)
    (src / "scenenet_rgbd_train_0.pb").write_bytes(trajectory("0/7", known) + trajectory("0/8", swapped))
    (src / "scenenet_rgbd_train_1.pb").write_bytes(trajectory("1/2000", known))
    (src / "scenenet_rgbd_val.pb").write_bytes(trajectory("0/7", swapped))
    return src


def test_scenenet(scenenet, tmp_path):
    manifest = packed(scenenet, "scenenet", tmp_path / "d")
    assert (manifest.role, manifest.labels, manifest.label_kind) == ("multimodal", NYU_13, "none")
    assert [(d.name, d.channels, d.bits, d.complete) for d in manifest.domains] == [
        ("rgb", 3, 8, True), ("depth", 1, 16, True), ("segmentation", 1, 8, True),
    ]  # fmt: skip
    assert {split: pool[0].count for split, pool in manifest.splits.items()} == {"train": 9, "test": 3}
    levels = contents(tmp_path / "d", manifest, "train", "depth")["0/7/0000"][0]
    assert levels[0, :, 0].tolist() == [0, 6554, 16384, 65535, 65535, 65535]  # 10 m are 65535; 0 is unknown
    bed, wall, table = (NYU_13.index(name) for name in ("bed", "wall", "table"))
    first = contents(tmp_path / "d", manifest, "train", "segmentation")
    assert first["0/7/0025"][0][0, :, 0].tolist() == [VOID, bed, wall, VOID, table, bed]
    assert first["0/8/0025"][0][0, :, 0].tolist() == [VOID, wall, bed, VOID, table, wall]
    assert contents(tmp_path / "d", manifest, "test", "segmentation")["0/7/0750"][0][0, 1, 0] == wall


def test_scenenet_from_any_storage(scenenet, tmp_path, memory_url):
    for path in scenenet.rglob("*.*"):
        storage.upload(path, storage.join(memory_url, str(path.relative_to(scenenet))))
    assert packed(memory_url, "scenenet", tmp_path / "a") == packed(scenenet, "scenenet", tmp_path / "b", )  # fmt: skip


def test_scenenet_frames_are_every_thirtieth(scenenet):
    keys = {(sample.split, sample.key) for sample in read_layout(str(scenenet), "scenenet-frames").samples}
    assert len(keys) == 8 and {key[-4:] for _, key in keys} == {"0000", "0750"}


@pytest.fixture
def videos(tmp_path):
    """1600 training trajectories and 3 published for validation, without their images."""
    walks = [f"{n // 1000}/{n}" for n in range(1600)]
    (tmp_path / "wnid_to_class.txt").write_text(TABLE)
    for name, paths in (("train_0", walks[:1000]), ("train_1", walks[1000:]), ("val", ["0/0", "0/1", "0/2"])):
        (tmp_path / f"scenenet_rgbd_{name}.pb").write_bytes(b"".join(trajectory(path, {}) for path in paths))
    return tmp_path


def test_training_trajectories_are_held_out_for_validation(videos):
    """The published val is what is tested on; who is held out has no say in the halves that the others form."""
    found = {}
    for sample in read_layout(str(videos), "scenenet-frames", pairs=["depth", "segmentation"]).samples:
        found.setdefault(sample.split, {}).setdefault(sample.key[:-5], []).append(tuple(sample.images)[1])
    assert set(found["test"]) == {"0/0", "0/1", "0/2"}
    assert not set(found["train"]) & set(found["val"]) and len(found["train"]) + len(found["val"]) == 1600
    assert 70 <= len(found["val"]) <= 130, "three deviations"
    depths = sum(kinds == ["depth"] * 2 for kinds in found["train"].values())
    assert abs(depths - len(found["train"]) / 2) <= 39, "two deviations of a fair coin"


def test_scenenet_for_ablations(videos):
    """Every sixth frame of the first 1000 trajectories, of tested ones the first: here 0 and 750 of each, and 0."""
    samples = list(read_layout(str(videos), "scenenet-ablation").samples)
    train = {sample.key for sample in samples if sample.split == "train"}
    assert train == {f"0/{n}/{frame}" for n in range(1000) for frame in ("0000", "0750")}
    rest = {(sample.split, sample.key) for sample in samples if sample.split != "train"}
    assert rest == {("test", f"0/{n}/0000") for n in range(3)}


def test_training_scenes_are_cut_down_to_pairs(scenenet, tmp_path):
    found = list(read_layout(str(scenenet), "scenenet", pairs=["depth", "segmentation"]).samples)
    kept = {}
    for sample in found:
        kept.setdefault((sample.split, sample.key.rpartition("/")[0]), set()).add(tuple(sample.images))
    assert all(len(kinds) == 1 for kinds in kept.values()), "a scene's frames have the same"
    train = {kinds.pop() for (split, _), kinds in kept.items() if split == "train"}
    assert train == {("rgb", "depth"), ("rgb", "segmentation")}
    assert kept["test", "0/7"] == {("rgb", "depth", "segmentation")}
    manifest = packed(scenenet, "scenenet", tmp_path / "d", pairs=["depth", "segmentation"])
    assert [domain.complete for domain in manifest.domains] == [True, False, False]


@pytest.mark.parametrize(
    ("layout", "pairs", "message"),
    [
        ("scenenet", ["depth"], "two parts or more"),
        ("scenenet", ["depth", "segmentatoin"], "Did you mean 'segmentation'"),
        ("folder", ["depth", "nir"], "made of multimodal data"),
    ],
)
def test_pairs_that_cannot_be_made(scenenet, layout, pairs, message):
    with pytest.raises(ConfigError, match=message):
        read_layout(str(scenenet), layout, pairs=pairs)


def test_scenenet_that_lacks_something(scenenet, tmp_path):
    broken = scenenet / "scenenet_rgbd_train_1.pb"
    content = broken.read_bytes()
    broken.write_bytes(content[:-3])
    with pytest.raises(DataError, match=r"train_1\.pb is damaged"):
        read_layout(str(scenenet), "scenenet")
    broken.write_bytes(content)
    (scenenet / "train/1/2000/depth/25.png").rename(tmp_path / "depth.png")
    with pytest.raises(StorageError, match=r"train/1/2000/depth/25\.png"):
        packed(scenenet, "scenenet", tmp_path / "d")
    (tmp_path / "depth.png").rename(scenenet / "train/1/2000/depth/25.png")
    (scenenet / "wnid_to_class.txt").write_text(TABLE.replace("20000041 workshoptable Table\n", ""))
    with pytest.raises(DataError, match="WordNet id 20000041, which wnid_to_class.txt lacks"):
        packed(scenenet, "scenenet", tmp_path / "d")
    (scenenet / "wnid_to_class.txt").write_text(TABLE.replace("Wall", "Wal"))
    with pytest.raises(DataError, match="wall.n.01     Wal"):
        read_layout(str(scenenet), "scenenet")
    (scenenet / "wnid_to_class.txt").unlink()
    with pytest.raises(DataError, match=r"should hold wnid_to_class\.txt and scenenet_rgbd_\*\.pb"):
        read_layout(str(scenenet), "scenenet")


@pytest.fixture
def sun(tmp_path):
    src, sizes = tmp_path / "src", {"a": (4, 6), "b": (5, 7), "c": (4, 6)}
    metres = {"a": 1.0, "b": 2.5, "c": 12.0}
    for name, size in sizes.items():
        save(src, f"SUNRGBD/kv1/NYUdata/{name}/image/{name}.jpg", picture(1, size=size))
        bits = np.full(size, int(metres[name] * 1000), dtype=np.uint16)
        save(src, f"SUNRGBD/kv1/NYUdata/{name}/depth_bfx/{name}.png", (bits << 3) | (bits >> 13))
    listed = {"training": ["b", "a"], "testing": ["c"]}
    for split, names in listed.items():
        lines = "".join(f"SUNRGBD/kv1/NYUdata/{name}/image/{name}.jpg\n" for name in names)
        (src / f"sunrgbd_{split}_images.txt").write_text(lines)
        for number, name in enumerate(names, 1):
            labels = np.zeros(sizes[name], dtype=np.uint8)
            labels[1:] = 1 + "abc".index(name)
            save(src, f"{split.removesuffix('ing')}13labels/img13labels-{number:06d}.png", labels)
    return src


def test_sun(sun, tmp_path):
    manifest = packed(sun, "sun-rgbd", tmp_path / "d")
    assert manifest.labels == NYU_13 and manifest.domain("depth").bits == 16
    depth = contents(tmp_path / "d", manifest, "train", "depth")
    assert {key: levels[0, 0, 0] for key, (levels, _) in depth.items()} == {
        "kv1/NYUdata/a": 6554, "kv1/NYUdata/b": 16384,
    }  # fmt: skip
    assert contents(tmp_path / "d", manifest, "test", "depth")["kv1/NYUdata/c"][0][0, 0, 0] == 65535
    labels = contents(tmp_path / "d", manifest, "train", "segmentation")
    assert labels["kv1/NYUdata/b"][0][:2, 0, 0].tolist() == [VOID, 1]
    assert labels["kv1/NYUdata/a"][0][:2, 0, 0].tolist() == [VOID, 0]


def test_scenes_of_sun_are_spread_over_pairs_whatever_sensor_took_them(sun):
    """Rooms of SUN3D, whose frames lie together, stay together."""
    sets = [f"{place}/{n:03d}" for place in ("kv2/kinect2data", "realsense/lg") for n in range(64)]
    rooms = [f"xtion/sun3ddata/house/room_{room}/{n}" for room in range(16) for n in range(4)]
    for number, scene in enumerate(sets + rooms, 1):
        for path in ("image/1.jpg", "depth_bfx/1.png"):
            save(sun, f"SUNRGBD/{scene}/{path}", np.zeros((2, 2), np.uint8))
        save(sun, f"train13labels/img13labels-{number:06d}.png", np.zeros((2, 2), np.uint8))
    lines = "".join(f"SUNRGBD/{scene}/image/1.jpg\n" for scene in sets + rooms)
    (sun / "sunrgbd_training_images.txt").write_text(lines)
    kept = {}
    for sample in read_layout(str(sun), "sun-rgbd", pairs=["depth", "segmentation"]).samples:
        if sample.split == "train":
            folder = sample.key.rpartition("/")[0]
            kept.setdefault(folder, []).append(tuple(sample.images))
    parts = {("rgb", "depth"), ("rgb", "segmentation")}
    for folder in ("kv2/kinect2data", "realsense/lg"):
        assert all(20 <= kept[folder].count(part) <= 44 for part in parts), "three deviations of a fair coin"
    of_rooms = [set(found) for folder, found in kept.items() if folder.startswith("xtion")]
    assert len(of_rooms) == 16 and all(len(found) == 1 for found in of_rooms)
    assert set.union(*of_rooms) == parts


def test_sun_whose_label_maps_are_in_another_order_is_refused(sun, tmp_path):
    listed = sun / "sunrgbd_training_images.txt"
    listed.write_text("\n".join(reversed(listed.read_text().split())))
    with pytest.raises(DataError, match=r"line [12]: the label map .* is (5x7|4x6) pixels, the photograph"):
        packed(sun, "sun-rgbd", tmp_path / "d")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("SUNRGBD/kv1/NYUdata/a/image/a.jpg", "line 2: there is no SUNRGBD/kv1/NYUdata/a/image/a.jpg"),
        ("SUNRGBD/kv1/NYUdata/a/depth_bfx/a.png", "no SUNRGBD/kv1/NYUdata/a/depth_bfx/"),
        ("train13labels/img13labels-000002.png", "no img13labels-000002.png for train"),
        ("sunrgbd_testing_images.txt", "has no sunrgbd_testing_images.txt, which SUN RGB-D needs"),
    ],
)
def test_sun_that_lacks_something(sun, path, message):
    (sun / path).unlink()
    with pytest.raises(DataError, match=message):
        read_layout(str(sun), "sun-rgbd")


def test_a_depth_of_three_channels_is_refused(sun, tmp_path):
    save(sun, "SUNRGBD/kv1/NYUdata/a/depth_bfx/a.png", picture(0, size=(4, 6)))
    with pytest.raises((DataError, SampleError), match="3 channels instead of one"):
        packed(sun, "sun-rgbd", tmp_path / "d")
