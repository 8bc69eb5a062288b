"""Rooms as colour, depth and label map: SceneNet RGB-D and SUN RGB-D as they are published.

Domains rgb, depth (see `modalities.depth_levels`) and segmentation, a label map of NYUv2's 13 classes.

SceneNet RGB-D (https://robotvault.bitbucket.io/scenenet-rgbd.html; facts from its tools, github.com/jmccormac/
pySceneNetRGBD): `[train|val]/CHUNK/TRAJECTORY/{photo/N.jpg,depth/N.png,instance/N.png}`, N = 0, 25, ..., 7475, and
`scenenet_rgbd_{val,train_0,...}.pb`. Depth is the length of the ray in millimetres; instances are numbered within a
trajectory, and the protobuf has each one's WordNet id. The tools' table `wnid_to_class.txt` maps these to the classes:
put it beside the protobufs. The published `val` is what papers test on.

SUN RGB-D (https://rgbd.cs.princeton.edu, and github.com/ankurhanda/sunrgbd-meta-data for lists and labels):
`SUNRGBD/SENSOR/.../SCENE/{image/*.jpg,depth_bfx/*.png}`; `sunrgbd_training_images.txt`, `sunrgbd_testing_images.txt`, a
photograph's path a line; label maps `img13labels-000001.png`, ... of 13 classes in folders named after `train` and
`test`. Depth is in millimetres, its bits rotated by 3 (`depthRead.m` of the toolbox). Reading: line n of a list belongs
to label map n; a label map of another size than its photograph is refused, so that a wrong order shows: the sensors'
sizes differ. The split is the published one, 5285 and 5050; mix-and-match networks had 10,000 and 335, unpublished.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from i2idist import storage
from i2idist.data.images import Array, open_picture
from i2idist.data.layouts.archives import damaged, find
from i2idist.data.layouts.source import Source, files, origin, source, stored_order, words
from i2idist.data.layouts.wire import fields
from i2idist.data.modalities import NYU_13, VOID, counted_from_one, depth_levels
from i2idist.data.pack import Sample
from i2idist.errors import DataError

_DOMAINS = ("rgb", "depth", "segmentation")
_FRAME_STEP = 25
_CHOSEN_FRAMES = 30
_SCENENET = "train/0/1/photo/0.jpg, depth/0.png, instance/0.png, scenenet_rgbd_train_0.pb, wnid_to_class.txt"
_SUN = "SUNRGBD/..., sunrgbd_training_images.txt, train13labels/img13labels-000001.png"
_SUN_LISTS = {"train": "sunrgbd_training_images.txt", "test": "sunrgbd_testing_images.txt"}

Instances = Mapping[int, str]
"""WordNet ids of a trajectory's instances by their number."""


def scenenet(src: str, *, every: int = 1) -> Source:
    """SceneNet RGB-D. One frame of `every` is taken of each trajectory."""
    listed = files(src)
    table = _wordnet(find(src, ["wnid_to_class.txt"], "SceneNet RGB-D")["wnid_to_class.txt"])
    instances = _all_instances(src, [path for path in listed if path.suffix == ".pb"])
    samples = [
        _frame(src, path, instances, table)
        for path in listed
        if path.parts[0] in ("train", "val") and path.parts[-2:-1] == ("photo",) and path.suffix == ".jpg"
        and int(path.stem) // _FRAME_STEP % every == 0
    ]  # fmt: skip
    samples.sort(key=lambda sample: (sample.split, stored_order(sample.key, sample.split)))
    return source("multimodal", _DOMAINS, samples, src, _SCENENET, NYU_13)


def scenenet_frames(src: str) -> Source:
    """SceneNet RGB-D as mix-and-match networks use it: ten frames of each trajectory (thesis, section 4.6.1)."""
    return scenenet(src, every=_CHOSEN_FRAMES)


def _frame(
    src: str, photo: PurePosixPath, instances: Mapping[tuple[str, str], Instances], table: Mapping[str, int]
) -> Sample:
    trajectory, split = photo.parent.parent, photo.parts[0]
    name = (split, str(PurePosixPath(*trajectory.parts[1:])))
    if name not in instances:
        raise DataError(f"No protobuf in {src} tells of {trajectory}. Add scenenet_rgbd_{split}*.pb.")
    depth, masks = (trajectory / kind / f"{photo.stem}.png" for kind in ("depth", "instance"))
    return Sample(
        f"{name[1]}/{int(photo.stem):04d}",
        split,
        {
            "rgb": partial(storage.read_bytes, origin(src, photo)),
            "depth": partial(_millimetres, origin(src, depth)),
            "segmentation": partial(_classes, origin(src, masks), instances[name], table),
        },
        origin=origin(src, photo),
    )


def _one_channel(url: str) -> Array:
    pixels = open_picture(storage.read_bytes(url), url)
    if pixels.shape[2] != 1:
        raise damaged(url, f"it has {pixels.shape[2]} channels instead of one")
    return pixels[..., 0]


def _millimetres(url: str) -> Array:
    return depth_levels(_one_channel(url) / 1000)


def _classes(url: str, instances: Instances, table: Mapping[str, int]) -> Array:
    """The label map of an instance map; instances that aren't listed, as the background, have no class."""
    masks = _one_channel(url)
    levels = np.full(int(masks.max()) + 1, VOID, dtype=np.uint8)
    for number, wordnet in instances.items():
        if wordnet not in table:
            raise DataError(f"{url} shows the WordNet id {wordnet}, which wnid_to_class.txt lacks. Add it there.")
        if number < len(levels):
            levels[number] = table[wordnet]
    return levels[masks]


def _wordnet(url: str) -> dict[str, int]:
    """Class levels by WordNet id, of a table with the columns wnid, name and 13_classes."""
    found = {}
    for line in storage.read_bytes(url).decode(errors="replace").splitlines()[1:]:
        cells = line.split()
        if cells and (len(cells) != 3 or cells[2].lower() not in NYU_13):
            raise damaged(url, f"the line {line!r} isn't a WordNet id, a name and one of {', '.join(NYU_13)}")
        if cells:
            found[cells[0].zfill(8)] = NYU_13.index(cells[2].lower())
    return found


def _all_instances(src: str, protobufs: Iterable[PurePosixPath]) -> dict[tuple[str, str], Instances]:
    """Instances by split and path of the trajectory."""
    found: dict[tuple[str, str], Instances] = {}
    for path in protobufs:
        split, url = "val" if "val" in path.stem else "train", origin(src, path)
        try:
            found |= {(split, render): instances for render, instances in _trajectories(storage.read_bytes(url))}
        except ValueError as error:
            raise damaged(url, str(error)) from error
    return found


def _trajectories(data: bytes) -> Iterator[tuple[str, Instances]]:
    """Trajectories.trajectories: each one's render_path (4) and instances (2: instance_id 1, semantic_wordnet_id 2)."""
    for _, trajectory in fields(data, (0, len(data))):
        render, instances = "", {}
        for number, part in fields(data, _span(trajectory)):
            if number == 4:
                render = data[slice(*_span(part))].decode()
            elif number == 2:
                values = dict(fields(data, _span(part)))
                if 2 in values:
                    instances[int(values.get(1, 0))] = data[slice(*_span(values[2]))].decode()  # type: ignore[arg-type]
        yield render, instances


def _span(value: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(value, int):
        raise ValueError("a number stands where a message should")
    return value


def sun(src: str) -> Source:
    """SUN RGB-D: the tree of scenes, the lists of photographs, and label maps of 13 classes."""
    listed = files(src)
    lists = find(src, list(_SUN_LISTS.values()), "SUN RGB-D")
    maps = _label_maps(listed)
    depths = {path.parent.parent: path for path in listed if path.parent.name == "depth_bfx" and path.suffix == ".png"}
    there = set(listed)
    samples = []
    for split, name in _SUN_LISTS.items():
        lines = storage.read_bytes(lists[name]).decode().split()
        for number, line in enumerate(lines, 1):
            photo = PurePosixPath(line)
            scene, where = photo.parent.parent, f"{lists[name]}, line {number}"
            for absent, what in (
                (photo not in there, f"no {photo}"),
                (scene not in depths, f"no {scene}/depth_bfx/*.png"),
                ((split, number) not in maps, f"no img13labels-{number:06d}.png for {split}"),
            ):
                if absent:
                    raise DataError(f"{where}: there is {what} below {src}. Unpack what is missing.")
            samples.append(_scene(src, split, photo, depths[scene], maps[split, number], where))
    samples.sort(key=lambda sample: (sample.split, stored_order(sample.key, sample.split)))
    return source("multimodal", _DOMAINS, samples, src, _SUN, NYU_13)


def _label_maps(listed: Sequence[PurePosixPath]) -> dict[tuple[str, int], PurePosixPath]:
    found = {}
    for path in listed:
        match = re.fullmatch(r"img13labels-(\d+)\.png", path.name)
        if match:
            found["test" if "test" in str(path.parent).lower() else "train", int(match[1])] = path
    return found


def _scene(
    src: str, split: str, photo: PurePosixPath, depth: PurePosixPath, labels: PurePosixPath, where: str
) -> Sample:
    read: Callable[[], bytes] = partial(storage.read_bytes, origin(src, photo))
    return Sample(
        words(photo.parent.parent.relative_to(photo.parts[0])),
        split,
        {
            "rgb": read,
            "depth": partial(_rotated, origin(src, depth)),
            "segmentation": partial(_counted, origin(src, labels), read, where),
        },
        origin=where,
    )


def _rotated(url: str) -> Array:
    bits = _one_channel(url).astype(np.uint16)
    return depth_levels(((bits >> 3) | (bits << 13)).astype(np.uint16) / 1000)


def _counted(url: str, photo: Callable[[], bytes], where: str) -> Array:
    labels, size = _one_channel(url), open_picture(photo(), where).shape[:2]
    if labels.shape != size:
        raise DataError(
            f"{where}: the label map {url} is {labels.shape[0]}x{labels.shape[1]} pixels, the photograph "
            f"{size[0]}x{size[1]}, so they don't belong together. Use the published lists and label maps."
        )
    return counted_from_one(labels, len(NYU_13))
