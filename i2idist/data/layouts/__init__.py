"""The layouts in which people have images, as samples to pack. Sources may lie in any storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from i2idist.data.layouts.colors import colors
from i2idist.data.layouts.digits import mnist, mnist_svhn, mnist_usps, svhn, usps
from i2idist.data.layouts.faces import celeba
from i2idist.data.layouts.folders import class_folders, folder, modality_folders
from i2idist.data.layouts.morph import morph, morph_udit
from i2idist.data.layouts.narrow import with_crop, with_labels
from i2idist.data.layouts.pairs import artworks, side_by_side, two_folders, two_folders_of_classes
from i2idist.data.layouts.source import EXTENSIONS, Source
from i2idist.errors import ConfigError, nearest

__all__ = ["EXTENSIONS", "LAYOUTS", "Source", "folder", "read_layout"]

LAYOUTS: dict[str, Callable[[str], Source]] = {
    "side-by-side": side_by_side,
    "trainA-trainB": two_folders,
    "trainA-trainB-classes": two_folders_of_classes,
    "class-folders": class_folders,
    "rgb-d": modality_folders,
    "folder": folder,
    "artworks": artworks,
    "celeba": celeba,
    "color": colors,
    "mnist": mnist,
    "mnist-svhn": mnist_svhn,
    "mnist-usps": mnist_usps,
    "morph": morph,
    "morph-udit": morph_udit,
    "svhn": svhn,
    "usps": usps,
}


def read_layout(src: str, layout: str, *, labels: Sequence[str] = (), crop: int | None = None) -> Source:
    """Understand the folder at `src`; images are read later, by `pack`.

    Args:
        src: a path or URL.
        layout: a key of LAYOUTS.
        labels: take only these classes or attributes, in this order; all by default.
        crop: side in pixels of the square to cut out of the middle of every image.

    Raises:
        ConfigError: there is no such layout or label, or `crop` isn't positive.
        DataError: the folder isn't in this layout.
        StorageError: the storage can't be reached.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"There is no layout '{layout}'.{nearest(layout, LAYOUTS)}")
    found = LAYOUTS[layout](src)
    if labels:
        found = with_labels(found, labels)
    return with_crop(found, crop) if crop is not None else found
