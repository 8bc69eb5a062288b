"""The image whose style all translations of a job take."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from torch import Tensor

from i2idist import storage
from i2idist.data.images import open_picture
from i2idist.data.transforms import to_unit
from i2idist.errors import ConfigError
from i2idist.method import Domain
from i2idist.translate.inputs import resized, with_channels


@dataclass(frozen=True)
class Style:
    """An image's file, read once, so that all workers see the same.

    Attributes:
        url: where it was.
        data: its bytes.
    """

    url: str
    data: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.data).hexdigest()

    def image(self, domain: Domain, size: tuple[int, int] | None) -> Tensor:
        """The image as one of `domain` at `size` (height, width), None: its own: (C, H, W) float32 in [-1, 1].

        Raises:
            SampleError: it is no image, or its channels can't become the domain's.
        """
        pixels = with_channels(open_picture(self.data, self.url), domain.channels, self.url)
        return to_unit(resized(pixels, size, [domain]))


def read_style(url: str) -> Style:
    """The image file at `url`, any storage URL.

    Raises:
        ConfigError: there is none.
        StorageError: storage can't be reached.
    """
    if not storage.exists(url):
        raise ConfigError(f"style_from is {url}, where there is no file: name an image of the target domain.")
    return Style(url, storage.read_bytes(url))
