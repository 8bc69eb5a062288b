import pytest

from i2idist.data.layouts import read_layout
from i2idist.errors import DataError
from tests.data.layouts.support import contents, labels, packed, save


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


def published(src, count=3):
    """CelebA's files in the folders in which they are published, with its forms of spaces and count lines."""
    names = "Smiling Male Young "
    for number in range(1, count + 1):
        save(src, f"Img/img_align_celeba/{number:06d}.jpg")
    (src / "Anno").mkdir()
    (src / "Eval").mkdir()
    rows = "".join(f"{number:06d}.jpg -1  1  1\r\n" for number in range(1, count + 1))
    (src / "Anno" / "list_attr_celeba.txt").write_text(f"{count}\r\n{names}\r\n{rows}")
    (src / "Eval" / "list_eval_partition.txt").write_text(
        "".join(f"{number:06d}.jpg {number % 3}\n" for number in range(1, count + 1))
    )
    return src


def test_celeba_as_it_is_downloaded(tmp_path):
    src = published(tmp_path / "src")
    save(src, "Img/img_celeba/000001.jpg")  # the uncropped images
    manifest = packed(src, "celeba", tmp_path / "d")
    assert manifest.labels == ("Smiling", "Male", "Young")
    assert {split: counts["image"] for split, counts in manifest.counts.items()} == {"train": 1, "val": 1, "test": 1}
    assert labels(tmp_path / "d", manifest, "val") == {"000001": (0.0, 1.0, 1.0)}


def test_a_celeba_list_that_was_cut_off_is_named(tmp_path):
    src = published(tmp_path)
    attributes = src / "Anno" / "list_attr_celeba.txt"
    attributes.write_text("".join(attributes.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match=r"list_attr_celeba\.txt, line 1 promises 3 rows, and 2 follow"):
        read_layout(str(src), "celeba")


def test_celeba_images_that_are_missing_are_counted_and_named(tmp_path):
    src = published(tmp_path)
    (src / "Img" / "img_align_celeba" / "000002.jpg").unlink()
    with pytest.raises(DataError, match="lacks 1 images that list_attr_celeba lists, the first being 000002"):
        read_layout(str(src), "celeba")


def test_a_celeba_image_without_its_part_is_named(tmp_path):
    src = published(tmp_path)
    (src / "Eval" / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(DataError, match=r"00000[23]\.jpg is not in list_eval_partition"):
        read_layout(str(src), "celeba")
