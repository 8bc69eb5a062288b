"""Encoded images: what a file holds, decoding within limits, encoding.

Stored as they come: JPEG (1 or 3 channels), PNG (1, 3 or 4 channels of 8 bits, 1 of 16). Everything else is stored as
PNG where such a PNG can hold it, else as `.npy`. Decoded images are (C, H, W) uint8 or uint16.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from i2idist.errors import SampleError

MAX_PIXELS = 1 << 26
"""Images of more pixels (height times width) are refused before they are decoded."""
MAX_VALUES = 4 * MAX_PIXELS
"""Likewise for height times width times channels."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
"""What Pillow may take a file for: some of its other formats start programs (EPS: Ghostscript)."""

Array = NDArray[Any]
Picture = Image.Image | Array | bytes
"""An image to pack: PIL, (H, W) or (H, W, C) uint8 or uint16, or an encoded file's bytes."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_NPY = b"\x93NUMPY"
_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
_PNG_MODES = {(1, 8): "L", (3, 8): "RGB", (4, 8): "RGBA", (1, 16): "I;16"}
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow and NumPy raise for files that aren't what they seem."""

_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Format:
    """What an encoded image says about itself: file extension, channels, bits a channel, height and width in pixels."""

    extension: str
    channels: int
    bits: int
    height: int
    width: int


def _png_format(data: bytes) -> Format | None:
    width, height, depth, color = struct.unpack(">IIBB", data[16:26])
    if color not in _PNG_CHANNELS or (color, depth) == (4, 8) or depth not in (8, 16):
        return None
    return Format("png", _PNG_CHANNELS[color], depth, height, width)


def _jpeg_format(data: bytes) -> Format | None:
    """Walk the segments to the frame header (SOF0 to SOF15, without the tables DHT, JPG and DAC)."""
    at = 2
    while at + 9 < len(data):
        marker, length = struct.unpack(">HH", data[at : at + 4])
        if marker == 0xFFFF:
            at += 1
            continue
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            precision, height, width, channels = struct.unpack(">BHHB", data[at + 4 : at + 10])
            fits = precision == 8 and channels in (1, 3)
            return Format("jpg", channels, 8, height, width) if fits else None
        at += 2 + length
    return None


def _npy_header(data: bytes) -> tuple[Format | None, int]:
    """What the header claims, and how many bytes follow it."""
    file = io.BytesIO(data)
    try:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except (*_BROKEN, TokenError, MemoryError, RecursionError):  # for brackets or signs by the thousand
        return None, 0
    if len(shape) != 3 or min(shape) < 1 or dtype.name not in ("uint8", "uint16"):
        return None, 0
    return Format("npy", shape[2], dtype.itemsize * 8, shape[0], shape[1]), len(data) - file.tell()


def stored_format(data: bytes) -> Format | None:
    """The format of a file that is stored as it is; None for others. Reads the header alone."""
    if data.startswith(_PNG) and len(data) > 26:
        return _png_format(data)
    if data.startswith(_JPEG):
        return _jpeg_format(data)
    return _npy_header(data)[0] if data.startswith(_NPY) else None


def check_pixels(height: int, width: int, channels: int, where: str) -> None:
    """Refuse an image that would take too much memory to decode.

    Raises:
        SampleError: empty, more than `MAX_PIXELS`, or with its channels more than `MAX_VALUES`.
    """
    if not 0 < height * width <= MAX_PIXELS or height * width * channels > MAX_VALUES:
        raise SampleError(
            f"{where} claims to be {height}x{width} pixels of {channels} channels; images up to {MAX_PIXELS} pixels "
            f"and {MAX_VALUES} values are decoded. Remove it, or scale it down."
        )


def decode(data: bytes, channels: int, bits: int, where: str) -> Array:
    """Decode a stored image: (C, H, W) uint8 or uint16, with the domain's channels and bits.

    Raises:
        SampleError: undecodable, of other bits, or larger than `MAX_PIXELS`.
    """
    found = stored_format(data)
    if found is None:
        raise SampleError(f"{where} is not an image that i2idist stores ({len(data)} bytes). Pack the dataset again.")
    check_pixels(found.height, found.width, found.channels, where)
    if found.bits != bits:
        raise SampleError(f"{where} has {found.bits} bits a channel, its domain {bits}. Pack the dataset again.")
    try:
        pixels = _decode_file(data, found, channels)
    except _BROKEN as error:
        raise SampleError(f"{where} can't be decoded: {error}. Replace or remove it.") from error
    if pixels.shape != (channels, found.height, found.width):
        raise SampleError(f"{where} decodes to {pixels.shape}, not {channels} channels. Pack the dataset again.")
    return pixels


def _decode_file(data: bytes, found: Format, channels: int) -> Array:
    if found.extension == "npy":
        return _decode_npy(data, found)
    mode = _PNG_MODES.get((channels, found.bits))
    if mode is None:
        raise ValueError(f"no {found.extension} file holds the domain's {channels} channels of {found.bits} bits")
    image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return np.ascontiguousarray(pixels.reshape(found.height, found.width, channels).transpose(2, 0, 1))


def _decode_npy(data: bytes, found: Format) -> Array:
    claimed = found.height * found.width * found.channels * found.bits // 8
    _, held = _npy_header(data)
    if held != claimed:  # NumPy would set aside all that the header claims
        raise ValueError(f"its header claims {claimed} bytes of pixels, and {held} follow")
    pixels = np.load(io.BytesIO(data), allow_pickle=False)
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False).transpose(2, 0, 1))


def _check_depth(found: Format, where: str) -> None:
    """Pillow drops half of the bits of such a PNG without a word."""
    if found.extension == "png" and (found.channels, found.bits) not in _PNG_MODES:
        raise SampleError(
            f"{where} is a PNG of {found.channels} channels of {found.bits} bits, which can't be read without loss. "
            "Save it as .npy, (H, W, C) uint16."
        )


def from_pil(image: Image.Image, where: str) -> Array:
    """The pixels of a PIL image, turned upright: (H, W, C) uint8 or uint16. Palettes become colours.

    Raises:
        SampleError: a mode with no 8- or 16-bit form (e.g. F).
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 0xFFFF:
            raise SampleError(f"{where} has values outside 0..65535. Rescale it to 16 bits.")
        return pixels.astype(np.uint16)[:, :, None]
    modes = {"L": "L", "1": "L", "LA": "L", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
    if image.mode == "P":
        modes["P"] = "RGBA" if "transparency" in image.info else "RGB"
    if image.mode not in modes:
        raise SampleError(f"{where} has PIL mode {image.mode}. Convert it to 8 or 16 bits a channel.")
    pixels = np.asarray(image.convert(modes[image.mode]))
    return pixels.reshape(image.height, image.width, -1)


def encode(pixels: Array, where: str) -> tuple[bytes, Format]:
    """Encode (H, W, C) uint8 or uint16 without loss.

    Raises:
        SampleError: another shape or dtype.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.dtype.name not in ("uint8", "uint16") or 0 in pixels.shape:
        raise SampleError(f"{where} is {pixels.dtype} of shape {pixels.shape}; wanted (H, W, C) uint8 or uint16.")
    height, width, channels = pixels.shape
    bits = pixels.dtype.itemsize * 8
    check_pixels(height, width, channels, where)
    file = io.BytesIO()
    if (channels, bits) in _PNG_MODES:
        Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels)).save(file, "PNG")
        return file.getvalue(), Format("png", channels, bits, height, width)
    np.lib.format.write_array(file, np.ascontiguousarray(pixels), version=(1, 0), allow_pickle=False)
    return file.getvalue(), Format("npy", channels, bits, height, width)


def _open(data: bytes, where: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        check_pixels(image.height, image.width, len(image.getbands()), where)
        image.load()
    except UnidentifiedImageError as error:
        raise SampleError(
            f"{where} can't be decoded: it is none of {', '.join(FORMATS)}. Replace or remove it."
        ) from error
    except _BROKEN as error:
        raise SampleError(f"{where} can't be decoded: {error}. Replace or remove it.") from error
    return image


def open_picture(picture: Picture, where: str) -> Array:
    """The pixels of any `Picture`: (H, W, C) uint8 or uint16.

    Raises:
        SampleError: undecodable, or of an unknown kind.
    """
    if isinstance(picture, bytes):
        found = stored_format(picture)
        if found and found.extension == "npy":
            return decode(picture, found.channels, found.bits, where).transpose(1, 2, 0)
        if found:
            _check_depth(found, where)
        picture = _open(picture, where)
    return from_pil(picture, where) if isinstance(picture, Image.Image) else picture


def to_stored(picture: Picture, where: str) -> tuple[bytes, Format]:
    """The bytes to store for a picture: an encoded file's own where possible, after decoding them once to be sure.

    Raises:
        SampleError: undecodable, or of an unknown kind.
    """
    if not isinstance(picture, bytes):
        return encode(open_picture(picture, where), where)
    found = stored_format(picture)
    if found and found.extension == "npy":
        decode(picture, found.channels, found.bits, where)
        return picture, found
    if found:
        _check_depth(found, where)
    image = _open(picture, where)
    if found and image.getexif().get(_EXIF_ORIENTATION, 1) == 1:
        return picture, found
    return encode(from_pil(image, where), where)
