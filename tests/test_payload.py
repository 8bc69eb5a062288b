import base64
import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from i2idist.errors import ConfigError, SampleError, SizeError
from i2idist.model import load
from i2idist.payload import MAX_OUTPUT_PIXELS, translate_images
from tests.styled import save_tiny


def encoded(mode="L", size=(16, 16), form="PNG", level=100):
    buffer = io.BytesIO()
    Image.new(mode, size, level if mode in ("L", "I;16") else (level,) * len(mode)).save(buffer, form)
    return base64.b64encode(buffer.getvalue()).decode()


def decoded(text):
    image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    assert image.format == "PNG"
    return torch.from_numpy(np.asarray(image).copy())


def claiming(width, height):
    """A PNG that says it is of this size, and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("model"))
    save_tiny(url)
    return load(url)


def test_images_come_back_as_the_model_translates_them(translator):
    levels = [0, 100, 255]
    answer = translate_images(translator, [encoded(level=level) for level in levels], num_samples=2, seed=3)
    x = torch.tensor(levels).div(127.5).sub(1)[:, None, None, None].expand(-1, 1, 16, 16)
    expected = ((translator.translate(x, num_samples=2, seed=3) + 1) * 127.5).round().to(torch.uint8)
    assert [len(each) for each in answer] == [2, 2, 2]
    for n, each in enumerate(answer):
        for k, text in enumerate(each):
            assert (decoded(text).permute(2, 0, 1).int() - expected[n, k].int()).abs().max() <= 1
    assert answer[0][0] != answer[0][1]


def test_the_same_request_gives_the_same_bytes_and_seeds_differ(translator):
    images = [encoded()]
    first = translate_images(translator, images, num_samples=2, seed=1)
    assert first == translate_images(translator, images, num_samples=2, seed=1)
    assert first != translate_images(translator, images, num_samples=2, seed=2)


def test_sizes_may_be_mixed_and_each_image_keeps_its_place(translator):
    sizes = [(16, 16), (32, 16), (32, 16), (16, 16)]
    answer = translate_images(translator, [encoded(size=size) for size in sizes], seed=5)
    assert [decoded(each[0]).shape[:2] for each in answer] == [(h, w) for w, h in sizes]
    assert answer[3] != answer[0], "codes are keyed by the place"


@pytest.mark.parametrize("text", [f"data:image/png;base64,{encoded()}", encoded()[:40] + "\n" + encoded()[40:]])
def test_data_urls_and_line_breaks_are_fine(translator, text):
    assert translate_images(translator, [text]) == translate_images(translator, [encoded()])


def test_jpeg_and_16_bits_are_read(translator):
    assert len(translate_images(translator, [encoded(form="JPEG"), encoded("I;16")])) == 2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("ä", "Image 1 is not base64"),
        ("abc", "Image 1 is not base64"),
        ("", r"Image 1 is no PNG or JPEG image \(0 bytes\)"),
        (base64.b64encode(b"not an image").decode(), "Image 1 is no PNG or JPEG image"),
        (base64.b64encode(base64.b64decode(encoded())[:50]).decode(), "Image 1 can't be decoded"),
        (encoded(form="GIF"), "Image 1 is no PNG or JPEG image"),
        (encoded("RGB"), "Image 1 has 3 channels, and this model takes 1"),
        (encoded("RGBA"), "Image 1 has 4 channels"),
        (claiming(3000, 3000), "Image 1 is 3000x3000 pixels"),
        (claiming(60000, 60000), "Image 1"),
        (None, "Image 1 is NoneType, not a string"),
        (5, "Image 1 is int, not a string"),
        ("A" * (2**26 + 1), "characters long"),
    ],
    ids=lambda value: None if isinstance(value, str) and len(value) < 60 else "image",
)
def test_what_is_no_image_for_the_model_is_refused_by_its_place(translator, image, message):
    with pytest.raises(SampleError, match=message):
        translate_images(translator, [encoded(), image])


def test_options_that_do_not_fit_are_refused(translator):
    with pytest.raises(ConfigError, match="at least one"):
        translate_images(translator, [])
    with pytest.raises(ConfigError, match="num_samples is -1"):
        translate_images(translator, [encoded()], num_samples=-1)
    with pytest.raises(ConfigError, match=f"may ask for {MAX_OUTPUT_PIXELS}"):
        translate_images(translator, [encoded()], num_samples=10**9)
    with pytest.raises(ConfigError, match="'c'"):
        translate_images(translator, [encoded()], target="c")
    with pytest.raises(SizeError, match="17x16"):
        translate_images(translator, [encoded(size=(16, 17))])
    with pytest.raises(ConfigError, match="segan takes no style"):
        translate_images(translator, [encoded()], style_from=encoded("RGB"))


def test_a_method_that_takes_a_style_is_handed_it(tmp_path):
    save_tiny(str(tmp_path), method_name="tests.styled:Styled")
    translator = load(str(tmp_path))
    assert translator.takes_style
    [[text]] = translate_images(translator, [encoded()], style_from=encoded("RGB", level=200))
    assert decoded(text).unique().tolist() == [200]
    with pytest.raises(SampleError, match="style_from has 1 channels"):
        translate_images(translator, [encoded()], style_from=encoded())


def test_mlflow_is_not_imported_until_it_is_asked_for():
    code = "import sys, i2idist.model, i2idist.payload, i2idist.launch\nassert 'mlflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
