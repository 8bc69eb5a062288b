"""Rooms as colour, depth and label map: SceneNet RGB-D and SUN RGB-D as they are published.

Domains rgb, depth (see `modalities.depth_levels`) and segmentation, a label map of NYUv2's 13 classes.

SceneNet RGB-D (https://robotvault.bitbucket.io/scenenet-rgbd.html; facts from its tools, github.com/jmccormac/
pySceneNetRGBD): `[train|val]/CHUNK/TRAJECTORY/{photo/N.jpg,depth/N.png,instance/N.png}`, N = 0, 25, ..., 7475, and
`scenenet_rgbd_{val,train_0,...}.pb`. Depth is the length of the ray in millimetres; instances are numbered within a
trajectory, and the protobuf has each one's WordNet id. The tools' table `wnid_to_class.txt` maps these to the classes:
put it and the protobufs beside the folders. The published `val` is what papers test on, so it is `test` here; of 16
training trajectories one is `val`, by a hash of its path. (Mix-and-match networks had 15,000 and 1,000, unpublished.)

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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from i2idist import storage
from i2idist.data.images import Array, open_picture
from i2idist.data.layouts.archives import damaged, find
from i2idist.data.layouts.source import Source, files, folder_of, hash_of, origin, source, stored_order, words
from i2idist.data.layouts.wire import Span, fields
from i2idist.data.modalities import NYU_13, VOID, counted_from_one, depth_levels
from i2idist.data.pack import Sample
from i2idist.errors import DataError

_DOMAINS = ("rgb", "depth", "segmentation")
_FRAME_STEP = 25
_CHOSEN_FRAMES = 30
_ABLATION_FRAMES = 6
_ABLATION_VIDEOS = 1000
_HELD_OUT = 16
_TABLE = "wnid_to_class.txt"
_SCENENET = "train/0/1/photo/0.jpg, depth/0.png, instance/0.png, scenenet_rgbd_train_0.pb, wnid_to_class.txt"
_SUN = "SUNRGBD/..., sunrgbd_training_images.txt, train13labels/img13labels-000001.png"
_SUN_LISTS = {"train": "sunrgbd_training_images.txt", "test": "sunrgbd_testing_images.txt"}

Instances = Mapping[int, str]
"""WordNet ids of a trajectory's instances by their number."""


@dataclass(frozen=True)
class _Trajectory:
    """A walk through a room: published split, path below it, instances, and the numbers of its frames."""

    split: str
    path: str
    instances: Instances
    frames: Sequence[int]


def scenenet(src: str, *, every: int = 1) -> Source:
    """SceneNet RGB-D. One frame of `every` is taken of each trajectory.

    The protobufs tell which images there are: the tree, of millions of files, isn't walked.
    """
    return _chosen(src, [(walk, _part(walk), every) for walk in _published(src)])


def scenenet_frames(src: str) -> Source:
    """SceneNet RGB-D as mix-and-match networks use it: ten frames of each trajectory (thesis, section 4.6.1)."""
    return scenenet(src, every=_CHOSEN_FRAMES)


def scenenet_ablation(src: str) -> Source:
    """SceneNet RGB-D as they are ablated on (thesis, section 4.6.2): 50 frames of each of the first 1000 trajectories.

    Tested is on the first frame of each of "another 1000 videos": reading: the published `val`. There is no `val` here.
    """
    walks = _published(src)
    train = sorted((walk for walk in walks if walk.split == "train"), key=_number)[:_ABLATION_VIDEOS]
    tested = [replace(walk, frames=walk.frames[:1]) for walk in walks if walk.split == "val"]
    chosen = [(walk, "train", _ABLATION_FRAMES) for walk in train] + [(walk, "test", 1) for walk in tested]
    return _chosen(src, chosen)


def _published(src: str) -> list[_Trajectory]:
    names = storage.list_dir(src)
    if _TABLE not in names or not any(name.endswith(".pb") for name in names):
        raise DataError(f"{src} should hold {_TABLE} and scenenet_rgbd_*.pb, beside train and val. Put them there.")
    return [walk for name in names if name.endswith(".pb") for walk in _trajectories(storage.join(src, name))]


def _part(walk: _Trajectory) -> str:
    """The split that a published trajectory is stored in."""
    if walk.split == "val":
        return "test"
    # Not the path's own hash, which spreads trajectories over pairs: what is left of it would be uneven.
    return "train" if hash_of(f"held out {walk.path}") % _HELD_OUT else "val"


def _number(walk: _Trajectory) -> list[tuple[int, str]]:
    """By what trajectories are sorted: their chunk, then their number."""
    return [(len(part), part) for part in walk.path.split("/")]


def _chosen(src: str, walks: Iterable[tuple[_Trajectory, str, int]]) -> Source:
    """Of each trajectory one frame of so many, in a split."""
    table = _wordnet(storage.join(src, _TABLE))
    samples = [
        _frame(src, walk, split, frame, table)
        for walk, split, every in walks
        for frame in walk.frames
        if frame // _FRAME_STEP % every == 0
    ]
    samples.sort(key=lambda sample: (sample.split, stored_order(sample.key, sample.split)))
    return source("multimodal", _DOMAINS, samples, src, _SCENENET, NYU_13)


def _frame(src: str, trajectory: _Trajectory, split: str, frame: int, table: Mapping[str, int]) -> Sample:
    folder = storage.join(src, trajectory.split, trajectory.path)
    photo, depth, masks = (
        storage.join(folder, place) for place in (f"photo/{frame}.jpg", f"depth/{frame}.png", f"instance/{frame}.png")
    )
    return Sample(
        words(PurePosixPath(trajectory.path) / f"{frame:04d}"),
        split,
        {
            "rgb": partial(storage.read_bytes, photo),
            "depth": partial(_millimetres, depth),
            "segmentation": partial(_classes, masks, trajectory.instances, table),
        },
        origin=photo,
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


def _trajectories(url: str) -> Iterator[_Trajectory]:
    """The trajectories of a protobuf, whose name says their split."""
    data, split = storage.read_bytes(url), "val" if "val" in PurePosixPath(url).stem else "train"
    try:
        for _, message in fields(data, (0, len(data))):
            yield _trajectory(data, _span(message), split)
    except ValueError as error:
        raise damaged(url, str(error)) from error


def _trajectory(data: bytes, message: Span, split: str) -> _Trajectory:
    """A Trajectory: instances (2), views (3), render_path (4)."""
    path, instances, frames = "", {}, []
    for number, part in fields(data, message):
        if number == 2:
            values = dict(fields(data, _span(part)))  # Instance: instance_id (1), semantic_wordnet_id (2)
            if 2 in values:
                instances[_integer(values.get(1, 0))] = data[slice(*_span(values[2]))].decode()
        elif number == 3:
            frames.append(_integer(dict(fields(data, _span(part))).get(1, 0)))  # View: frame_num (1)
        elif number == 4:
            path = data[slice(*_span(part))].decode()
    return _Trajectory(split, path, instances, frames)


def _span(value: int | Span) -> Span:
    if isinstance(value, int):
        raise ValueError("a number stands where a message should")
    return value


def _integer(value: int | Span) -> int:
    if isinstance(value, tuple):
        raise ValueError("a message stands where a number should")
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
    return replace(source("multimodal", _DOMAINS, samples, src, _SUN, NYU_13), scene=_room)


def _room(key: str) -> str:
    """SUN3D's rooms have folders, `xtion/sun3ddata/PLACE/ROOM/SCENE`; elsewhere `SENSOR/SET` holds scenes of many."""
    return folder_of(key) if key.count("/") > 2 else key


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
