"""MORPH's album 2 as its academic release has it: `morph_2008_nonCommercial.csv` beside the folder `Album2`.

The table has, among others, the columns id_num (the person), race (B, W, H, A or O), gender (M or F), age (years) and
photo (the image's path). Pictures of race O are left out (thesis, section 5.6.1).

Readings where the thesis is silent: young is below 30 years; splits are by person, so nobody is in two.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from i2idist import storage
from i2idist.data.layouts.archives import damaged
from i2idist.data.layouts.source import Source, files, key, origin, reader, source, stored_order
from i2idist.data.pack import Sample
from i2idist.data.shards import Label
from i2idist.errors import DataError

ETHNICITIES = ("african", "european", "hispanic", "asian")
LABELS = ("male", "old", *ETHNICITIES)
"""Attributes of each image, 0 or 1."""

_OLD_FROM = 30
_RACES = {"B": "african", "W": "european", "H": "hispanic", "A": "asian", "O": "other"}
_WANTED = "morph_2008_nonCommercial.csv and Album2/*.JPG"
_COLUMNS = ("id_num", "race", "gender", "age", "photo")
_TRAIN = {True: 10_000, False: 1_000}
"""Men and women that each side of UDIT's biased set has in training (Table 5.1)."""
_TEST = 200
"""Images of each gender and side in its test (Table 5.2)."""


@dataclass(frozen=True)
class _Face:
    person: str
    path: PurePosixPath
    male: bool
    old: bool
    race: str

    @property
    def kind(self) -> tuple[bool, bool]:
        """What is counted in UDIT's biased set."""
        return self.male, self.old

    @property
    def attributes(self) -> tuple[float, ...]:
        """In the order of LABELS."""
        return (float(self.male), float(self.old), *(float(self.race == name) for name in ETHNICITIES))


def _table(src: str, listed: Sequence[PurePosixPath]) -> PurePosixPath:
    found = [path for path in listed if path.suffix.lower() == ".csv" and path.name.lower().startswith("morph")]
    if len(found) != 1:
        names = ", ".join(map(str, found)) or "none"
        raise DataError(f"{src} should have one table morph*.csv (morph_2008_nonCommercial.csv); there is {names}.")
    return found[0]


def _rows(url: str) -> list[tuple[str, dict[str, str | None]]]:
    """The rows of the table, each with the words that name it in messages."""
    rows = csv.DictReader(io.StringIO(storage.read_bytes(url).decode("utf-8-sig", errors="replace")))
    try:
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise DataError(f"{url} has no columns {', '.join(missing)}. Use the table as it is released.")
        return [(f"{url}, line {rows.line_num}", row) for row in rows]
    except csv.Error as error:
        raise damaged(url, str(error)) from error


def _faces(src: str) -> list[_Face]:
    """All images of the table but those of race O, in its order."""
    listed = files(src)
    table, there = _table(src, listed), set(listed)
    faces = []
    for where, row in _rows(origin(src, table)):
        face = _face(row, table.parent, where)
        if face.path not in there:
            raise DataError(f"{where}: there is no {origin(src, face.path)}. Put Album2 beside the table, whole.")
        if face.race != "other":
            faces.append(face)
    return faces


def _face(row: dict[str, str | None], folder: PurePosixPath, where: str) -> _Face:
    race, gender, age, photo = ((row[name] or "").strip() for name in _COLUMNS[1:])
    if race not in _RACES or gender not in ("M", "F") or not (age.isascii() and age.isdigit()) or not photo:
        raise DataError(f"{where}: race {race!r}, gender {gender!r}, age {age!r}, photo {photo!r} can't be. Mend it.")
    person = (row["id_num"] or "").strip()
    return _Face(person, folder / photo, gender == "M", int(age) >= _OLD_FROM, _RACES[race])


def _mixed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def _sample(src: str, face: _Face, split: str, domain: str, label: Label) -> Sample:
    name = key(PurePosixPath(face.path.name))
    return Sample(name, split, {domain: reader(src, face.path)}, label, origin(src, face.path))


def album(src: str) -> Source:
    """MORPH with all its attributes. 8 of 10 people are `train`, 1 `val`, 1 `test`."""
    part = {8: "val", 9: "test"}
    samples = [
        _sample(src, face, part.get(_mixed(face.person) % 10, "train"), "image", face.attributes)
        for face in _faces(src)
    ]
    samples.sort(key=lambda sample: (sample.split, stored_order(sample.key, sample.split)))
    return source("labelled", ("image",), samples, src, _WANTED, LABELS)


def by_gender(src: str) -> Source:
    """UDIT's biased set with the classes female and male."""
    return _biased(src, ("female", "male"), lambda face: int(face.male))


def by_ethnicity(src: str) -> Source:
    """UDIT's biased set with the ethnicities as classes."""
    return _biased(src, ETHNICITIES, lambda face: ETHNICITIES.index(face.race))


def _biased(src: str, classes: tuple[str, ...], label: Callable[[_Face], int]) -> Source:
    """MORPH as UDIT trains on it: a is young, b old, unpaired.

    Of each side, 200 images of men and 200 of women are `test`, 10,000 and 1,000 `train` (thesis, Tables 5.1 and 5.2);
    the people who are in neither are `rest`, for classifiers (Table 5.3).
    """
    samples = [_sample(src, face, split, "b" if face.old else "a", label(face)) for split, face in _parted(_faces(src))]
    samples.sort(key=lambda sample: (sample.split, next(iter(sample.images)), stored_order(sample.key, sample.split)))
    return source("unpaired", ("a", "b"), samples, src, _WANTED, classes)


def _parted(faces: Sequence[_Face]) -> Iterator[tuple[str, _Face]]:
    """Faces and their splits: people go, in random order, where images like one of theirs are lacking.

    Images of theirs that are not lacking there are left out.
    """
    kinds = list(itertools.product((True, False), repeat=2))
    lacking = {
        "test": dict.fromkeys(kinds, _TEST),
        "train": {kind: _TRAIN[kind[0]] for kind in kinds},
        "rest": dict.fromkeys(kinds, len(faces)),
    }
    ordered = sorted(faces, key=lambda face: (_mixed(face.person), face.person, str(face.path)))
    for _, group in itertools.groupby(ordered, key=lambda face: face.person):
        theirs = list(group)
        split = next(name for name, left in lacking.items() if any(left[face.kind] for face in theirs))
        for face in theirs:
            if lacking[split][face.kind]:
                lacking[split][face.kind] -= 1
                yield split, face
