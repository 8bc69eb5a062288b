import io
import struct

import numpy as np
import pytest
from PIL import Image

from i2idist.data.layouts import read_layout
from i2idist.errors import DataError
from tests.data.layouts.support import contents, labels, packed, save
from tests.data.samples import picture


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def example(**features):
    """tf.train.Example of features of one bytes value each; feature names have / for __."""
    entries = [
        field(1, field(1, name.replace("__", "/").encode()) + field(2, field(1, field(1, value))))
        for name, value in features.items()
    ]
    return field(1, b"".join(entries))


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def record(data):
    return struct.pack("<Q", len(data)) + b"crc4" + data + b"crc4"


def write_records(path, numbers):
    path.parent.mkdir(parents=True, exist_ok=True)
    examples = [example(image__file_name=f"im{n}.jpg".encode(), image__encoded_image=png(picture(n))) for n in numbers]
    path.write_bytes(b"".join(map(record, examples)))


def test_the_record_files_of_mix_and_match_networks(tmp_path):
    for number, name in enumerate(("domain_0", "domain_10", "domain_2")):
        write_records(tmp_path / "src" / "train" / f"{name}.tfrecords", [10 * number, 10 * number + 1])
        write_records(tmp_path / "src" / "test" / f"{name}.tfrecords", [100 + number])
    manifest = packed(tmp_path / "src", "color", tmp_path / "d")
    assert (manifest.role, manifest.labels) == ("labelled", ("domain_0", "domain_10", "domain_2"))
    found = contents(tmp_path / "d", manifest, "train", "image")
    assert len(found) == 6
    pixels, label = found["domain_2/000001"]
    assert label == 2
    assert np.array_equal(pixels, picture(21))
    assert labels(tmp_path / "d", manifest, "test") == {f"domain_{n}/000000": i for i, n in enumerate((0, 10, 2))}


def test_folders_of_colors(tmp_path):
    for name in ("train/blue/1.jpg", "train/red/1.jpg", "test/blue/2.jpg"):
        save(tmp_path / "src", name)
    manifest = packed(tmp_path / "src", "color", tmp_path / "d")
    assert labels(tmp_path / "d", manifest, "train") == {"blue/1": 0, "red/1": 1}


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no images in this layout, which is"):
        read_layout(str(tmp_path), "color")


def test_a_record_file_that_was_cut_off_is_named(tmp_path):
    path = tmp_path / "train" / "blue.tfrecords"
    write_records(path, range(3))
    whole = path.read_bytes()
    one = len(whole) // 3
    for length in (5, one - 1, 2 * one + 20, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"blue\.tfrecords is damaged, .*it is cut off in the record at byte"):
            read_layout(str(tmp_path), "color")


@pytest.mark.parametrize(
    "data",
    [
        example(image__name=b"x"),
        b"\xff" * 40,
        field(1, field(1, field(1, b"image/encoded_image"))),
        field(1, field(1, b"\x0a\x7f")),
        b"",
    ],
)
def test_records_of_other_things_are_refused(tmp_path, data):
    path = tmp_path / "train" / "blue.tfrecords"
    path.parent.mkdir()
    path.write_bytes(record(data))
    with pytest.raises(DataError, match=r"blue\.tfrecords is damaged, or isn't the published file"):
        read_layout(str(tmp_path), "color")


def test_a_harmed_record_file_is_an_error_or_samples(tmp_path):
    path = tmp_path / "train" / "blue.tfrecords"
    write_records(path, range(2))
    whole = path.read_bytes()
    heads = [*range(60), *range(len(whole) // 2, len(whole) // 2 + 60)]
    for place in heads:
        harmed = bytearray(whole)
        harmed[place] ^= 0x41
        path.write_bytes(harmed)
        try:
            samples = list(read_layout(str(tmp_path), "color").samples)
            assert all(isinstance(sample.images["image"](), bytes) for sample in samples)
        except DataError as error:
            assert "blue.tfrecords" in str(error)  # noqa: PT017
