"""The layouts in which people have images, as samples to pack. Sources may lie in any storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from i2idist.data.layouts import colors, digits, faces, flowers, folders, forest, indoor, morph, pairs
from i2idist.data.layouts.folders import folder
from i2idist.data.layouts.narrow import with_crop, with_labels, with_limit, with_pairs
from i2idist.data.layouts.source import EXTENSIONS, Source
from i2idist.errors import ConfigError, nearest

__all__ = ["EXTENSIONS", "LAYOUTS", "Source", "folder", "read_layout"]

LAYOUTS: dict[str, Callable[[str], Source]] = {
    "side-by-side": pairs.side_by_side,
    "trainA-trainB": pairs.two_folders,
    "trainA-trainB-classes": pairs.two_folders_of_classes,
    "class-folders": folders.class_folders,
    "rgb-d": folders.modality_folders,
    "folder": folder,
    "artworks": pairs.artworks,
    "celeba": faces.celeba,
    "color": colors.colors,
    "mnist": digits.mnist,
    "svhn": digits.svhn,
    "usps": digits.usps,
    "mnist-svhn": digits.mnist_svhn,
    "mnist-usps": digits.mnist_usps,
    "flowers": flowers.flowers,
    "flowers-10": flowers.ten,
    "flowers-opponents": flowers.opponent,
    "freiburg-forest": forest.forest,
    "scenenet": indoor.scenenet,
    "scenenet-frames": indoor.scenenet_frames,
    "scenenet-ablation": indoor.scenenet_ablation,
    "sun-rgbd": indoor.sun,
    "morph": morph.album,
    "morph-gender": morph.by_gender,
    "morph-ethnicity": morph.by_ethnicity,
}


def read_layout(
    src: str,
    layout: str,
    *,
    labels: Sequence[str] = (),
    limit: int | None = None,
    crop: int | None = None,
    pairs: Sequence[str] = (),
) -> Source:
    """Understand the folder at `src`; images are read later, by `pack`.

    Args:
        src: a path or URL.
        layout: a key of LAYOUTS.
        labels: take only these classes or attributes, in this order; all by default.
        limit: take at most so many training samples, of each class where there are classes, see `narrow.with_limit`.
        crop: side in pixels of the square to cut out of the middle of every image.
        pairs: what parts of the training scenes keep beside the first modality, see `narrow.with_pairs`.

    Raises:
        ConfigError: there is no such layout, label or modality, or `limit` or `crop` isn't positive.
        DataError: the folder isn't in this layout.
        StorageError: the storage can't be reached.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"There is no layout '{layout}'.{nearest(layout, LAYOUTS)}")
    found = LAYOUTS[layout](src)
    if labels:
        found = with_labels(found, labels)
    if limit is not None:
        found = with_limit(found, limit)
    if pairs:
        found = with_pairs(found, pairs)
    return with_crop(found, crop) if crop is not None else found
