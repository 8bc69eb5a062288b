"""Images as they travel in JSON: base64 of PNG or JPEG in, base64 of PNG out, within limits.

What arrives from outside is refused in words before it costs memory: text that is no base64, bytes that are no image,
images that are too large or have other channels than the model takes.
"""

from __future__ import annotations

import base64
import binascii
import io
import itertools
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from i2idist.data.images import encode, open_picture
from i2idist.data.transforms import to_pixels, to_unit
from i2idist.errors import ConfigError, SampleError
from i2idist.method import Domain
from i2idist.model import Translator

MAX_PIXELS = 1 << 22
"""Of one image, height times width: 2048 x 2048."""

MAX_OUTPUT_PIXELS = 1 << 24
"""Of all translations that one request asks for."""

SEPARATOR = "|"
"""Between the images of one sample that are fused: base64 has no such sign."""

_MAX_TEXT = 64 * 2**20
_BATCH_PIXELS = 1 << 20
_BATCH = 64
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def decode_image(text: object, domain: Domain, where: str) -> Tensor:
    """An image from base64 of a PNG or JPEG file; a data URL and line breaks are fine.

    Args:
        text: what came in.
        domain: whose channels it must have.
        where: names it in messages.

    Returns:
        (C, H, W) float32 in [-1, 1].

    Raises:
        SampleError: no text, no base64, no such image, too large, or of other channels.
    """
    data = _bytes(text, where)
    _check_header(data, where)
    pixels = open_picture(data, where)
    if pixels.shape[2] != domain.channels:
        raise SampleError(
            f"{where} has {pixels.shape[2]} channels, and this model takes {domain.channels} (domain '{domain.name}'). "
            "Convert it first."
        )
    return to_unit(pixels.transpose(2, 0, 1))


def _bytes(text: object, where: str) -> bytes:
    if not isinstance(text, str):
        raise SampleError(f"{where} is {type(text).__name__}, not a string: send base64 of a PNG or JPEG file.")
    if len(text) > _MAX_TEXT:
        raise SampleError(f"{where} is {len(text)} characters long; at most {_MAX_TEXT} are read. Send a smaller file.")
    body = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SampleError(f"{where} is not base64: {error}. Send base64 of a PNG or JPEG file.") from error


def _check_header(data: bytes, where: str) -> None:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            width, height = image.size
    except _UNREADABLE as error:
        raise SampleError(f"{where} is no PNG or JPEG image ({len(data)} bytes). Send one as base64.") from error
    if height * width > MAX_PIXELS:
        raise SampleError(
            f"{where} is {height}x{width} pixels; up to {MAX_PIXELS} (2048x2048) are translated. Scale it down."
        )


def _decode_input(text: object, domains: Sequence[Domain], where: str) -> Tensor:
    """An image, or one of each of several domains in a string, joined by `|`: (C, H, W), their channels side by side.

    Raises:
        SampleError: as `decode_image`; or another number of images, or of different sizes.
    """
    if len(domains) == 1 or not isinstance(text, str):
        return decode_image(text, domains[0], where)
    texts, names = text.split(SEPARATOR), [domain.name for domain in domains]
    if len(texts) != len(domains):
        raise SampleError(f"{where} holds {len(texts)} images: send those of {', '.join(names)}, joined by '|'.")
    images = [decode_image(*both, f"{where}, {both[1].name},") for both in zip(texts, domains, strict=True)]
    if len({image.shape[1:] for image in images}) > 1:
        raise SampleError(f"{where} holds images of {', '.join(names)} that differ in size: send them in one size.")
    return torch.cat(images)


def encode_image(image: Tensor, where: str) -> str:
    """(C, H, W) float in [-1, 1], C being 1, 3 or 4 -> base64 of an 8-bit PNG.

    Raises:
        ConfigError: channels that PNG can't hold.
    """
    data, form = encode(to_pixels(image), where)
    if form.extension != "png":
        raise ConfigError(f"{where} has {form.channels} channels, and PNG holds 1, 3 or 4: use i2idist.load in Python.")
    return base64.b64encode(data).decode()


def _style(translator: Translator, text: str, target: str | None) -> Tensor:
    if not translator.takes_style:
        raise ConfigError(f"{translator.card.method} takes no style from an image: leave style_from out.")
    _, domain = translator.card.domains.route(target)
    return decode_image(text, domain, "style_from")


def sample_images(
    translator: Translator,
    *,
    num_samples: int = 1,
    seed: int = 0,
    target: str | None = None,
    style_from: str | None = None,
) -> list[str]:
    """Make images by a model that generates.

    Args:
        translator: the model.
        num_samples: how many.
        seed: of their codes.
        target: the label of all of them; None: the model's labels in turn.
        style_from: nothing that a generator takes.

    Returns:
        Base64 of PNG files.

    Raises:
        ConfigError: options that the model doesn't take, or more output than a request may ask for.
    """
    domain = translator.card.domains.a
    if style_from:
        raise ConfigError(f"{translator.card.method} takes no style from an image: leave style_from out.")
    wanted = num_samples * domain.height * domain.width
    if not 1 <= wanted <= MAX_OUTPUT_PIXELS:
        raise ConfigError(
            f"num_samples is {num_samples}: a request may ask for 1 to "
            f"{MAX_OUTPUT_PIXELS // (domain.height * domain.width)} images."
        )
    batch = max(1, min(_BATCH, _BATCH_PIXELS // (domain.height * domain.width)))
    made = translator.sample(num_samples, seed=seed, target=target, batch_size=batch)
    return [encode_image(image, f"Sample {n}") for n, image in enumerate(made)]


def translate_images(
    translator: Translator,
    images: Sequence[object],
    *,
    num_samples: int = 1,
    seed: int = 0,
    target: str | None = None,
    style_from: str | None = None,
) -> list[list[str]]:
    """Translate images of any sizes that the model can process, each with `num_samples` codes.

    Args:
        translator: the model.
        images: base64 of PNG or JPEG files; where a target fuses several images of a sample, those joined by `|`.
        num_samples: codes for each image, keyed by `seed` and the image's place in the list.
        seed: of the codes.
        target: the domain or label to translate to; None: the model's first.
        style_from: base64 of an image of the target domain whose style is taken, for methods that can.

    Returns:
        For each image its translations, as base64 of PNG files.

    Raises:
        SampleError: an image that can't be used; says which one, and why.
        ConfigError: options that the model doesn't take, or more output than a request may ask for.
    """
    sources = translator.card.domains.sources(target)
    inputs = [_decode_input(text, sources, f"Image {n}") for n, text in enumerate(images)]
    if not inputs:
        raise ConfigError("There are no images to translate: send at least one.")
    wanted = num_samples * sum(x.shape[1] * x.shape[2] for x in inputs)
    if wanted > MAX_OUTPUT_PIXELS:
        raise ConfigError(
            f"{len(inputs)} images with num_samples={num_samples} ask for {wanted} pixels; a request may ask for "
            f"{MAX_OUTPUT_PIXELS}. Send fewer, smaller, or ask for fewer samples."
        )
    style = _style(translator, style_from, target) if style_from else None
    translated: list[Tensor] = []
    for _, run in itertools.groupby(inputs, key=lambda x: x.shape):
        same = torch.stack(list(run))
        translated += translator.translate(
            same,
            num_samples=num_samples,
            seed=seed,
            first_position=len(translated),
            target=target,
            style_from=style,
            batch_size=max(1, min(_BATCH, _BATCH_PIXELS // (same.shape[2] * same.shape[3]))),
        )
    return [[encode_image(image, f"Translation of image {n}") for image in each] for n, each in enumerate(translated)]
