import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from i2idist.data.images import FORMATS, Format, decode, encode, from_pil, stored_format, to_stored
from i2idist.errors import SampleError
from tests.data.samples import picture


def file_of(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(height, width, depth, color, pixels):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("channels", "bits", "extension"),
    [(1, 8, "png"), (3, 8, "png"), (4, 8, "png"), (2, 8, "npy"), (7, 8, "npy"), (1, 16, "png"), (3, 16, "npy")],
)
def test_arrays_survive_exactly(channels, bits, extension):
    pixels = picture(0, channels, bits, size=(5, 9))
    data, found = encode(pixels, "x")
    assert found == stored_format(data) == Format(extension, channels, bits, 5, 9)
    assert np.array_equal(decode(data, channels, bits, "x"), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_a_png_whose_bits_would_be_lost_is_refused(color, channels):
    data = png(4, 5, 16, color, bytes(4 * (1 + 5 * channels * 2)))
    Image.open(io.BytesIO(data)).load()
    with pytest.raises(SampleError, match=f"x is a PNG of {channels} channels of 16 bits.*Save it as .npy"):
        to_stored(data, "x")


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA")]
)
def test_common_files_are_stored_as_they_are(kind, mode):
    image = Image.fromarray(picture(2, 3)).convert(mode)
    data = file_of(image, kind)
    stored, found = to_stored(data, "x")
    assert stored == data
    assert (found.channels, found.height, found.width) == (len(mode), *image.size[::-1])
    if kind == "PNG":
        expected = np.asarray(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
        assert np.array_equal(decode(stored, found.channels, 8, "x"), expected)


@pytest.mark.parametrize(
    ("kind", "mode", "channels"), [("PNG", "P", 3), ("PNG", "1", 1), ("BMP", "RGB", 3), ("TIFF", "CMYK", 3)]
)
def test_other_files_are_stored_as_png(kind, mode, channels):
    image = Image.fromarray(picture(3, 3)).convert(mode)
    stored, found = to_stored(file_of(image, kind), "x")
    assert (found.extension, found.channels) == ("png", channels)
    expected = np.asarray(image.convert("RGB" if channels == 3 else "L")).reshape(image.height, image.width, -1)
    assert np.array_equal(decode(stored, channels, 8, "x"), expected.transpose(2, 0, 1))


def test_photos_are_turned_upright():
    pixels = picture(4, 3, size=(4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    _, found = to_stored(file_of(Image.fromarray(pixels), "JPEG", exif=exif), "x")
    assert (found.height, found.width) == (6, 4)


@pytest.mark.parametrize(("stored", "wanted"), [("L", "RGB"), ("RGBA", "RGB")])
def test_a_domain_of_mixed_kinds_is_read_as_colour(stored, wanted):
    image = Image.fromarray(picture(5, 4)).convert(stored)
    data, _ = to_stored(file_of(image, "PNG"), "x")
    expected = np.asarray(image.convert(wanted)).transpose(2, 0, 1)
    assert np.array_equal(decode(data, 3, 8, "x"), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_truncated_file_is_refused_with_its_name(kind):
    data = file_of(Image.fromarray(picture(6, 3, size=(40, 40))), kind)
    with pytest.raises(SampleError, match=r"photos/cat\.jpg can't be decoded"):
        to_stored(data[: len(data) // 2], "photos/cat.jpg")


def test_what_is_no_image_is_refused():
    for data in (b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\x93NUMPY\x01\x00"):
        with pytest.raises(SampleError, match="x can't be decoded"):
            to_stored(data, "x")
        with pytest.raises(SampleError, match="x is not an image"):
            decode(data, 3, 8, "x")


def test_a_pickled_array_is_refused():
    file = io.BytesIO()
    np.save(file, np.array([[["a"]]], dtype=object), allow_pickle=True)
    with pytest.raises(SampleError, match="x can't be decoded"):
        to_stored(file.getvalue(), "x")


@pytest.mark.parametrize("read", [lambda data: decode(data, 3, 8, "x"), lambda data: to_stored(data, "x")])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(read):
    with pytest.raises(SampleError, match="x .*(pixels|exceeds limit)"):
        read(png(60_000, 60_000, 8, 2, b""))


def test_a_bomb_in_numpy_form_is_refused():
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (60_000, 60_000, 3)})
    with pytest.raises(SampleError, match="60000x60000 pixels"):
        to_stored(file.getvalue(), "x")


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ((1, 1, 10**14), "1x1 pixels of 100000000000000 channels"),
        ((64, 64, 3), "its header claims 12288 bytes of pixels, and 0 follow"),
        ((-2, -2, 3), "it is none of JPEG"),
    ],
)
@pytest.mark.parametrize("read", [lambda data: decode(data, 3, 8, "x"), lambda data: to_stored(data, "x")])
def test_a_numpy_header_is_not_believed(read, shape, complaint):
    """NumPy sets aside whatever the header claims before it looks for the pixels."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with pytest.raises(SampleError, match=f"{complaint}|x is not an image"):
        read(file.getvalue())


@pytest.mark.parametrize("header", [b"(" * 9000, b"-" * 9000 + b"1", b"1+" * 4500 + b"1", b"{'descr':"])
def test_a_numpy_header_that_pythons_parser_chokes_on_is_refused(header):
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"
    with pytest.raises(SampleError, match="x can't be decoded"):
        to_stored(data, "x")


def test_numpy_files_of_the_other_byte_order_are_read():
    file, pixels = io.BytesIO(), picture(0, 3, 16)
    np.save(file, pixels.astype(">u2"))
    found = decode(file.getvalue(), 3, 16, "x")
    assert found.dtype.isnative
    assert np.array_equal(found, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(("bits", "mode"), [(8, "RGB"), (16, "I;16")])
def test_a_png_in_a_domain_that_no_png_holds_is_a_bad_sample(bits, mode):
    data = file_of(Image.new(mode, (4, 4)), "PNG")
    with pytest.raises(SampleError, match=f"x can't be decoded: no png file holds the domain's 5 channels of {bits}"):
        decode(data, 5, bits, "x")


def test_postscript_is_refused_without_starting_ghostscript(monkeypatch):
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: started.append(1))
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    assert Image.open(io.BytesIO(data)).format == "EPS"
    with pytest.raises(SampleError, match="x can't be decoded: it is none of JPEG"):
        to_stored(data, "x")
    assert not started


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_layouts_look_for_is_read(kind):
    image = Image.fromarray(picture(8, 3, size=(8, 8)))
    assert to_stored(file_of(image, kind), "x")[1].height == 8


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 3), np.float32), np.zeros((4,), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_arrays_of_other_kinds_are_refused(pixels):
    with pytest.raises(SampleError, match=r"wanted \(H, W, C\) uint8 or uint16"):
        encode(pixels, "x")


def test_modes_without_an_8_or_16_bit_form_are_refused():
    with pytest.raises(SampleError, match="PIL mode F"):
        from_pil(Image.new("F", (4, 4)), "x")
    with pytest.raises(SampleError, match="outside 0..65535"):
        from_pil(Image.new("I", (4, 4), 70_000), "x")


def test_bits_must_be_the_domains():
    data, _ = encode(picture(0, 1, 16), "x")
    with pytest.raises(SampleError, match="x has 16 bits a channel, its domain 8"):
        decode(data, 1, 8, "x")
