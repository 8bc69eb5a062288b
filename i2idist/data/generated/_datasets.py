"""The generated datasets as samples to pack: which images, splits, labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from i2idist.data import modalities
from i2idist.data.generated import digits, edges, maps, opponents, rooms, shapes, textures
from i2idist.data.generated._draws import rng_of
from i2idist.data.manifest import Role
from i2idist.data.pack import Sample


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What decides every byte of a generated dataset, besides its name.

    Attributes:
        size: (H, W) in pixels.
        train: samples of this split; for unpaired data, in each pool.
        val: likewise.
        test: likewise.
        seed: other seeds give other samples.
        choices: what else this dataset lets one choose, see `Generator.choices`.
    """

    size: tuple[int, int]
    train: int
    val: int
    test: int
    seed: int
    choices: Mapping[str, str] = field(default_factory=dict)

    def splits(self) -> dict[str, int]:
        """Samples by split, without empty splits."""
        counts = {"train": self.train, "val": self.val, "test": self.test}
        return {split: count for split, count in counts.items() if count}


@dataclass(frozen=True)
class Generator:
    """One generated dataset.

    Attributes:
        summary: what it shows, in a line.
        role: how its images relate.
        counts: default samples of train, val and test.
        labels: names of the classes for given parameters; empty where samples have no label.
        revision: raised whenever the same parameters would give other pictures, so that stale caches aren't used.
        samples: the samples for given parameters, in the order of packing.
        choices: parameters of this dataset alone, with the values that each may have; the first is the default.
        domains: names of the kinds of images for given parameters.
    """

    summary: str
    role: Role
    counts: Mapping[str, int]
    labels: Callable[[Parameters], tuple[str, ...]]
    revision: int
    samples: Callable[[Parameters], Iterator[Sample]]
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    domains: Callable[[Parameters], tuple[str, ...]] = lambda parameters: ("a", "b")


def _always(*labels: str) -> Callable[[Parameters], tuple[str, ...]]:
    return lambda parameters: labels


def _digit_samples(parameters: Parameters) -> Iterator[Sample]:
    """Pool a is capped at the scans that there are; `seed` changes pool b alone."""
    among = digits.CLASSES[parameters.choices["only"]]
    for split, count in parameters.splits().items():
        for place, scan in enumerate(digits.scans_of(split, among)[:count]):
            image, digit = digits.handwritten(int(scan), parameters.size)
            yield Sample(f"{place:06d}-scan{scan:04d}", split, {"a": image}, digit)
        for place in range(count):
            rng = rng_of(parameters.seed, "digits", split, place)
            image, digit = digits.street(rng, parameters.size, among)
            yield Sample(f"{place:06d}", split, {"b": image}, digit)


def _edge_samples(parameters: Parameters) -> Iterator[Sample]:
    for split, count in parameters.splits().items():
        for place in range(count):
            a, b, label = edges.pair((parameters.seed, "edges", split, place), parameters.size)
            yield Sample(f"{place:06d}", split, {"a": a, "b": b}, label)


def _map_samples(parameters: Parameters) -> Iterator[Sample]:
    for split, count in parameters.splits().items():
        for place in range(count):
            a, b, _ = maps.pair((parameters.seed, "maps", split, place), parameters.size)
            yield Sample(f"{place:06d}", split, {"a": a, "b": b})


def _shape_samples(parameters: Parameters) -> Iterator[Sample]:
    families, label = parameters.choices["families"], parameters.choices["label"]
    for split, count in parameters.splits().items():
        for place in range(count):
            key, colour = (parameters.seed, "shapes", split, place), place % len(shapes.COLOURS)
            wanted = shapes.family_at(families, place)
            image, family = shapes.picture(key, parameters.size, colour, family=wanted)
            yield Sample(f"{place:06d}", split, {"image": image}, family if label == "family" else colour)


_PAIRED = {
    "theta2,theta3": (("theta1", "theta2"), ("theta1", "theta3")),
    "all": (("theta1", "theta2", "theta3"),),
}
"""What training sees of each of its images, in turns, by the name of the choice."""
_SUBJECTS = {"photographs": opponents.PHOTOGRAPHS, "flowers": tuple(opponents.FLOWERS)}


def _opponent_samples(parameters: Parameters) -> Iterator[Sample]:
    """Classes take turns among the images that training sees alike, so that no class is tied to a pair."""
    seen, subject = _PAIRED[parameters.choices["seen"]], parameters.choices["of"]
    for split, count in parameters.splits().items():
        turns = seen if split == "train" else _PAIRED["all"]
        for place in range(count):
            label = place // len(turns) % len(_SUBJECTS[subject])
            key = (parameters.seed, "opponents", subject, split, place)
            if subject == "flowers":
                image = opponents.flower(key, parameters.size, label)
            else:
                image = opponents.crop(key, parameters.size, label, split)
            shown = modalities.opponents(image)
            yield Sample(f"{place:06d}", split, {name: shown[name] for name in turns[place % len(turns)]}, label)


_SEEN: dict[str, tuple[tuple[str, ...], ...]] = {
    "depth,segmentation": (("rgb", "depth"), ("rgb", "segmentation")),
    "depth-nir,segmentation": (("rgb", "depth", "nir"), ("rgb", "segmentation")),
    "depth,segmentation,nir": (("rgb", "depth"), ("rgb", "segmentation"), ("rgb", "nir")),
    "all": (("rgb", "depth", "segmentation", "nir"),),
}
"""What training sees of each of its rooms, in turns, by the name of the choice."""


def _room_domains(parameters: Parameters) -> tuple[str, ...]:
    seen = {name for names in _SEEN[parameters.choices["seen"]] for name in names}
    return tuple(name for name in ("rgb", "depth", "segmentation", "nir") if name in seen)


def _room_samples(parameters: Parameters) -> Iterator[Sample]:
    """Each room is one sample's; those of val and test are seen in all domains."""
    seen, every = _SEEN[parameters.choices["seen"]], _room_domains(parameters)
    for split, count in parameters.splits().items():
        for place in range(count):
            views = rooms.views((parameters.seed, "rooms", split, place), parameters.size)
            names = seen[place % len(seen)] if split == "train" else every
            yield Sample(f"{place:06d}", split, {name: getattr(views, name) for name in names})


_SHAPE_LABELS = {"colour": tuple(shapes.COLOURS), "family": tuple(edges.FAMILIES)}
_KINDS = tuple((colour, texture) for colour in textures.COLOURS for texture in textures.TEXTURES)
_LABELS = {
    "texture": textures.TEXTURES,
    "colour": tuple(textures.COLOURS),
    "kind": tuple(f"{texture} {colour}" for colour, texture in _KINDS),
}


def _texture_kinds(bias: str, domain: str, ratio: int, place: int) -> tuple[str, str]:
    """Colour and texture of the bag at a place of a pool: UDIT's Table 5.1, blue in place of black.

    Where texture is the bias, all of a are flat and blue, and b is textured and red but for every (ratio + 1)-th bag,
    which is flat and red; where colour is, all of a are flat and red, and b is textured and blue but for those, which
    are textured and red.
    """
    rare = place % (ratio + 1) == 0
    if bias == "none":
        return _KINDS[place % len(_KINDS)]
    if bias == "texture":
        return ("blue", "flat") if domain == "a" else ("red", "flat" if rare else "textured")
    return ("red", "flat") if domain == "a" else ("red" if rare else "blue", "textured")


def _texture_samples(parameters: Parameters) -> Iterator[Sample]:
    bias, ratio, label = (parameters.choices[key] for key in ("bias", "ratio", "label"))
    for split, count in parameters.splits().items():
        for domain in "ab":
            for place in range(count):
                kind = _texture_kinds(bias, domain, int(ratio), place)
                key = (parameters.seed, "textures", split, domain, place)
                number = {
                    "texture": textures.TEXTURES.index(kind[1]),
                    "colour": list(textures.COLOURS).index(kind[0]),
                    "kind": _KINDS.index(kind),
                }[label]
                image = textures.bag(key, parameters.size, *kind)
                yield Sample(f"{place:06d}-{kind[0]}-{kind[1]}", split, {domain: image}, number)


GENERATED: dict[str, Generator] = {
    "digits": Generator(
        summary="handwritten digits <-> street-style digits, unpaired",
        role="unpaired",
        counts={"train": 5000, "val": 500, "test": 1000},
        labels=_always(*"0123456789"),
        revision=2,
        samples=_digit_samples,
        choices={"only": tuple(digits.CLASSES)},
    ),
    "edges": Generator(
        summary="edges <-> coloured objects, paired, many valid colourings of each drawing",
        role="paired",
        counts={"train": 2000, "val": 100, "test": 200},
        labels=_always(*edges.FAMILIES),
        revision=2,
        samples=_edge_samples,
    ),
    "maps": Generator(
        summary="satellite-like photographs <-> street maps, paired, one right map of each photograph",
        role="paired",
        counts={"train": 1000, "val": 100, "test": 200},
        labels=_always(),
        revision=2,
        samples=_map_samples,
    ),
    "opponents": Generator(
        summary="red - green, green - blue and colours of photographs or drawn flowers, in pairs that share no image",
        role="multimodal",
        counts={"train": 2000, "val": 100, "test": 200},
        labels=lambda parameters: _SUBJECTS[parameters.choices["of"]],
        revision=1,
        samples=_opponent_samples,
        choices={"of": tuple(_SUBJECTS), "seen": tuple(_PAIRED)},
        domains=_always("theta1", "theta2", "theta3"),
    ),
    "rooms": Generator(
        summary="furnished rooms as colour, depth, label map and infrared, no two of the last three of one room",
        role="multimodal",
        counts={"train": 2000, "val": 100, "test": 200},
        labels=_always(*rooms.CLASSES),
        revision=1,
        samples=_room_samples,
        choices={"seen": tuple(_SEEN)},
        domains=_room_domains,
    ),
    "shapes": Generator(
        summary="objects of four families in many shades of red, yellow, green or blue, labelled with the colour",
        role="labelled",
        counts={"train": 2000, "val": 100, "test": 400},
        labels=lambda parameters: _SHAPE_LABELS[parameters.choices["label"]],
        revision=1,
        samples=_shape_samples,
        choices={"families": tuple(shapes.FAMILIES), "label": tuple(_SHAPE_LABELS)},
        domains=_always("image"),
    ),
    "textures": Generator(
        summary="handbags, colour x texture, unpaired: what is to change in translation tied to what is not, 10 to 1",
        role="unpaired",
        counts={"train": 1100, "val": 110, "test": 220},
        labels=lambda parameters: _LABELS[parameters.choices["label"]],
        revision=1,
        samples=_texture_samples,
        choices={"bias": ("texture", "colour", "none"), "ratio": ("10", "3", "1"), "label": tuple(_LABELS)},
    ),
}
"""Generated datasets by name."""
