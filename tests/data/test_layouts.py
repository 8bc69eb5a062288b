import numpy as np
import pytest
from PIL import Image

from i2idist import storage
from i2idist.data.images import decode
from i2idist.data.layouts import read_layout
from i2idist.data.pack import pack
from i2idist.data.source import PoolSource
from i2idist.errors import ConfigError, DataError, SampleError
from tests.data.samples import picture


def save(folder, name, pixels=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = picture(len(name)) if pixels is None else pixels
    Image.fromarray(pixels.squeeze()).save(path)


def packed(src, layout, dest):
    source = read_layout(str(src), layout)
    manifest = pack(
        source.samples, str(dest), name="d", role=source.role, domains=source.domains, labels=source.labels, workers=2
    )
    counted = sum(pool.count for pools in manifest.splits.values() for pool in pools)
    assert counted == source.count
    return manifest


def contents(dest, manifest, split, domain):
    """Pixels and labels by key."""
    source, spec = PoolSource(str(dest), manifest, split, domain, None), manifest.domain(domain)
    found = {}
    for number in range(source.pool.count):
        data, where = source.read(number, [domain])[0]
        pixels = decode(data, spec.channels, spec.bits, where).transpose(1, 2, 0) if data else None
        found[source.key(number)] = (pixels, source.label(number))
    source.close()
    return found


def test_side_by_side(tmp_path):
    left, right = picture(1), picture(2)
    save(tmp_path / "src", "train/1.png", np.concatenate([left, right], axis=1))
    save(tmp_path / "src", "val/2.png", np.concatenate([right, left], axis=1))
    (tmp_path / "src" / "readme.txt").write_text("not an image")
    manifest = packed(tmp_path / "src", "side-by-side", tmp_path / "d")
    assert (manifest.role, list(manifest.splits)) == ("paired", ["train", "val"])
    assert np.array_equal(contents(tmp_path / "d", manifest, "train", "a")["1"][0], left)
    assert np.array_equal(contents(tmp_path / "d", manifest, "train", "b")["1"][0], right)


def test_side_by_side_needs_an_even_width(tmp_path):
    save(tmp_path, "src/train/odd.png", picture(0, size=(4, 7)))
    with pytest.raises(SampleError, match=r"train/odd\.png is 7 pixels wide"):
        packed(tmp_path / "src", "side-by-side", tmp_path / "d")


def test_two_folders(tmp_path):
    for name in ("trainA/x 1.png", "trainA/x2.png", "trainB/y.png", "testA/z.png", "testB/w.png", "other/v.png"):
        save(tmp_path / "src", name)
    manifest = packed(tmp_path / "src", "trainA-trainB", tmp_path / "d")
    assert manifest.role == "unpaired"
    assert set(contents(tmp_path / "d", manifest, "train", "a")) == {"x_1", "x2"}
    assert set(contents(tmp_path / "d", manifest, "train", "b")) == {"y"}
    assert set(contents(tmp_path / "d", manifest, "test", "b")) == {"w"}


def test_an_empty_folder_of_two_is_named(tmp_path):
    save(tmp_path / "src", "trainA/x.png")
    with pytest.raises(DataError, match="Domain b is empty in split train"):
        packed(tmp_path / "src", "trainA-trainB", tmp_path / "d")


@pytest.mark.parametrize("splits", [("",), ("train/", "test/")])
def test_class_folders(tmp_path, splits):
    for split in splits:
        for name in ("dog/1.png", "cat/1.png", "cat/deep/2.png"):
            save(tmp_path / "src", split + name)
    manifest = packed(tmp_path / "src", "class-folders", tmp_path / "d")
    found = contents(tmp_path / "d", manifest, "train", "image")
    assert manifest.labels == ("cat", "dog")
    assert {key: label for key, (_, label) in found.items()} == {"cat/1": 0, "cat/deep/2": 0, "dog/1": 1}
    assert len(manifest.splits) == len(splits)


def test_training_images_are_stored_in_mixed_order(tmp_path):
    """Readers shuffle in blocks; a folder sorted by class must not come class by class."""
    for name in "ab":
        for number in range(20):
            save(tmp_path / "src", f"train/{name}/{number}.png", picture(0, 1))
    labels = [sample.label for sample in read_layout(str(tmp_path / "src"), "class-folders").samples]
    assert 5 < sum(labels[:20]) < 15
    again = [sample.label for sample in read_layout(str(tmp_path / "src"), "class-folders").samples]
    assert labels == again


@pytest.mark.parametrize("style", ["published", "kaggle"])
def test_celeba(tmp_path, style):
    src = tmp_path / "src"
    for number in (1, 2, 3):
        save(src, f"img_align_celeba/00000{number}.jpg")
    rows = ["000001.jpg -1  1", "000002.jpg  1  1", "000003.jpg -1 -1"]
    parts = ["000001.jpg 0", "000002.jpg 1", "000003.jpg 2"]
    if style == "published":
        (src / "list_attr_celeba.txt").write_text("3\nSmiling Male\n" + "\n".join(rows) + "\n")
        (src / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    else:
        lines = ["image_id,Smiling,Male", *(",".join(row.split()) for row in rows)]
        (src / "list_attr_celeba.csv").write_text("\n".join(lines))
        (src / "list_eval_partition.csv").write_text(
            "\n".join(["image_id,partition", *(p.replace(" ", ",") for p in parts)])
        )
    manifest = packed(src, "celeba", tmp_path / "d")
    assert (manifest.labels, manifest.label_kind) == (("Smiling", "Male"), "attributes")
    assert contents(tmp_path / "d", manifest, "train", "image")["000001"][1] == (0.0, 1.0)
    assert contents(tmp_path / "d", manifest, "val", "image")["000002"][1] == (1.0, 1.0)
    assert contents(tmp_path / "d", manifest, "test", "image")["000003"][1] == (0.0, 0.0)


def test_celeba_wants_its_list_and_a_row_for_every_image(tmp_path):
    save(tmp_path / "src", "img_align_celeba/1.jpg")
    with pytest.raises(DataError, match="has no list_attr_celeba.txt"):
        read_layout(str(tmp_path / "src"), "celeba")
    (tmp_path / "src" / "list_attr_celeba.txt").write_text("1\nSmiling\n2.jpg 1\n")
    with pytest.raises(DataError, match=r"1\.jpg is not in list_attr_celeba"):
        read_layout(str(tmp_path / "src"), "celeba")
    (tmp_path / "src" / "list_attr_celeba.txt").write_text("1\nSmiling\n1.jpg yes\n")
    with pytest.raises(DataError, match=r"list_attr_celeba\.txt, line 3: the row for 1\.jpg isn't"):
        read_layout(str(tmp_path / "src"), "celeba")


@pytest.mark.parametrize("row", ["2.jpg 3", "2.jpg", "2.jpg 0 1"])
def test_a_celeba_partition_that_is_none_is_named(tmp_path, row):
    save(tmp_path / "src", "img_align_celeba/1.jpg")
    (tmp_path / "src" / "list_attr_celeba.txt").write_text("1\nSmiling\n1.jpg 1\n")
    (tmp_path / "src" / "list_eval_partition.txt").write_text(f"1.jpg 0\n{row}\n")
    with pytest.raises(DataError, match=f"list_eval_partition.txt, line 2: '{row}' isn't a file and 0"):
        read_layout(str(tmp_path / "src"), "celeba")


def test_rgb_d(tmp_path):
    depth = picture(5, 1, 16)
    save(tmp_path / "src", "train/rgb/room/1.jpg")
    save(tmp_path / "src", "train/depth/room/1.png", depth)
    save(tmp_path / "src", "train/rgb/room/2.jpg")
    manifest = packed(tmp_path / "src", "rgb-d", tmp_path / "d")
    assert manifest.role == "multimodal"
    assert [(d.name, d.channels, d.bits, d.complete) for d in manifest.domains] == [
        ("rgb", 3, 8, True),
        ("depth", 1, 16, False),
    ]
    found = contents(tmp_path / "d", manifest, "train", "depth")
    assert np.array_equal(found["room/1"][0], depth)
    assert found["room/2"][0] is None


def test_a_plain_folder_from_any_storage(tmp_path, memory_url):
    save(tmp_path, "x.png", picture(3))
    storage.upload(tmp_path / "x.png", storage.join(memory_url, "sub", "x.png"))
    manifest = packed(memory_url, "folder", tmp_path / "d")
    assert np.array_equal(contents(tmp_path / "d", manifest, "train", "image")["sub/x"][0], picture(3))


def test_names_that_become_one_key_are_refused(tmp_path):
    save(tmp_path / "src", "a b.png")
    save(tmp_path / "src", "a_b.png")
    with pytest.raises(DataError, match="key 'a_b' occurs twice"):
        packed(tmp_path / "src", "folder", tmp_path / "d")


@pytest.mark.parametrize("layout", ["side-by-side", "trainA-trainB", "class-folders", "rgb-d", "folder"])
def test_a_folder_of_another_layout_is_refused(tmp_path, layout):
    with pytest.raises(DataError, match="no images in this layout, which is"):
        read_layout(str(tmp_path), layout)


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no layout 'trainAB'. Did you mean 'trainA-trainB'"):
        read_layout(str(tmp_path), "trainAB")
