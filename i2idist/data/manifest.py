"""The manifest: what a dataset in storage holds, checked on the way in and on the way out.

A dataset is a folder: `manifest.json`, and for each split tar shards, each with an index of byte ranges beside it.

    photos/manifest.json
    photos/train/a-00000-HASH.tar  photos/train/a-00000-HASH.json  ...

Shards list samples of one pool. Paired data has one pool, its shards holding both images of each sample; unpaired data
has a pool for each domain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from i2idist import storage
from i2idist.data.images import MAX_PIXELS, MAX_VALUES
from i2idist.errors import ConfigError, DataError, ManifestError, nearest
from i2idist.method import Domain, Domains

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"

Role = Literal["paired", "unpaired", "labelled", "multimodal", "images"]
ROLES: tuple[Role, ...] = ("paired", "unpaired", "labelled", "multimodal", "images")

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ShardName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}/[A-Za-z0-9_][A-Za-z0-9_-]{0,100}\.tar$")]
Count = Annotated[int, Field(ge=1, le=1 << 40)]
"""Of samples, pixels or bytes of a shard. What nobody has is refused before memory is set aside for it."""
_MEMBER = 512
"""The bytes that a file in a tar takes at least."""

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Shard:
    """One tar file: its path below the dataset, samples, size and hash, and those of its index."""

    name: ShardName
    count: Count
    bytes: Count
    sha256: Sha256
    index_bytes: Count
    index_sha256: Sha256

    @property
    def index_name(self) -> str:
        """The path of the index below the dataset."""
        return self.name.removesuffix(".tar") + ".json"


@dataclass(frozen=True, config=_STRICT)
class ImageDomain:
    """One kind of image.

    Attributes:
        name: the domain's name.
        channels: channels that readers decode to.
        bits: 8 or 16 a channel.
        size: (height, width) in pixels where all images share it, else None.
        complete: whether every sample has an image in this domain; false only in multimodal data.
    """

    name: Name
    channels: Count
    bits: Literal[8, 16]
    size: Annotated[tuple[Count, Count], Field(strict=False)] | None
    complete: bool


@dataclass(frozen=True, config=_STRICT)
class Pool:
    """Samples of one split that have images in `domains`, in shard order."""

    domains: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]
    shards: Annotated[tuple[Shard, ...], Field(strict=False, min_length=1)]

    @property
    def count(self) -> int:
        """The number of samples."""
        return sum(shard.count for shard in self.shards)


@dataclass(frozen=True, config=_STRICT)
class Manifest:
    """What a dataset holds.

    Attributes:
        schema_version: of this format.
        name: the dataset's name.
        role: how its images relate.
        domains: kinds of images; source first, target second.
        label_kind: none, one class a sample, or a vector of attributes.
        labels: names of the classes or attributes.
        splits: pools by split.
        digest: SHA-256 of everything above, and so of every byte of the data.
    """

    schema_version: int
    name: Name
    role: Role
    domains: Annotated[tuple[ImageDomain, ...], Field(strict=False, min_length=1)]
    label_kind: Literal["none", "class", "attributes"]
    labels: Annotated[tuple[str, ...], Field(strict=False)]
    splits: dict[Name, Annotated[tuple[Pool, ...], Field(strict=False, min_length=1)]]
    digest: str = ""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Manifest:
        names = [domain.name for domain in self.domains]
        if len(set(names)) != len(names):
            raise ValueError(f"domains are named twice: {names}")
        for domain in self.domains:
            height, width = domain.size or (1, 1)
            if height * width > MAX_PIXELS or height * width * domain.channels > MAX_VALUES:
                raise ValueError(f"domain {domain.name} claims {height}x{width} pixels of {domain.channels} channels")
        if self.role in ("paired", "unpaired") and len(names) != 2:
            raise ValueError(f"{self.role} data has two domains, not {names}")
        for split, pools in self.splits.items():
            listed = [name for pool in pools for name in pool.domains]
            if sorted(listed) != sorted(names):
                raise ValueError(f"split {split} holds the domains {listed}, the dataset {names}")
            if any(not shard.name.startswith(f"{split}/") for pool in pools for shard in pool.shards):
                raise ValueError(f"split {split} lists a shard outside its folder")
            if any(shard.count * _MEMBER > shard.bytes for pool in pools for shard in pool.shards):
                raise ValueError(f"split {split} lists a shard with more samples than fit into its bytes")
        return self

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Samples by split and domain."""
        return {
            split: {domain: pool.count for pool in pools for domain in pool.domains}
            for split, pools in self.splits.items()
        }

    def pools(self, split: str) -> tuple[Pool, ...]:
        """The pools of a split.

        Raises:
            ConfigError: there is no such split.
        """
        if split not in self.splits:
            raise ConfigError(f"Dataset {self.name} has no split '{split}'.{nearest(split, self.splits)}")
        return self.splits[split]

    def pool(self, split: str, domain: str) -> Pool:
        """The pool of a split that holds a domain's images.

        Raises:
            ConfigError: there is no such split or domain.
        """
        self.domain(domain)
        return next(pool for pool in self.pools(split) if domain in pool.domains)

    def domain(self, name: str) -> ImageDomain:
        """The domain called `name`.

        Raises:
            ConfigError: there is none.
        """
        for domain in self.domains:
            if domain.name == name:
                return domain
        raise ConfigError(f"Dataset {self.name} has no domain '{name}'.{nearest(name, [d.name for d in self.domains])}")

    def domains_for(
        self,
        size: tuple[int, int] | None,
        names: Sequence[str] | None = None,
        label_maps: Mapping[str, int] | None = None,
        to_nearest: Collection[str] = (),
    ) -> Domains:
        """What a method is told when images are read at `size`.

        Args:
            size: (height, width) in pixels, None for the stored size.
            names: the domains to read, in order; all of them by default.
            label_maps: the number of classes of each domain whose images are label maps.
            to_nearest: domains beside these that are resized to the nearest pixel.

        Raises:
            ConfigError: `size` is None and a domain's images differ in size, or a name is unknown.
        """
        chosen = [self.domain(name) for name in names] if names is not None else list(self.domains)
        images = []
        for domain in chosen:
            pixels = size or domain.size
            if pixels is None:
                raise ConfigError(f"Images of {self.name}/{domain.name} differ in size: set data.size, e.g. 256.")
            classes = (label_maps or {}).get(domain.name)
            images.append(Domain(domain.name, domain.channels, *pixels, classes, domain.name in to_nearest))
        return Domains(tuple(images), self.labels)

    def sealed(self) -> Manifest:
        """This manifest with its digest filled in."""
        return replace(self, digest=hashlib.sha256(_canonical(self)).hexdigest())


_ADAPTER = TypeAdapter(Manifest)


def _canonical(manifest: Manifest) -> bytes:
    content = _ADAPTER.dump_python(manifest, mode="json", exclude={"digest"})
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def to_json(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`."""
    return _ADAPTER.dump_json(manifest, indent=1) + b"\n"


def _version(data: Mapping[str, object] | object, url: str) -> None:
    found = data.get("schema_version") if isinstance(data, Mapping) else None
    if found != SCHEMA_VERSION:
        raise ManifestError(
            f"{url} has schema version {found!r}; this i2idist reads version {SCHEMA_VERSION}. "
            "Pack the dataset again, or use the i2idist that wrote it."
        )


def parse(data: bytes, url: str) -> Manifest:
    """Check and parse a manifest's bytes; `url` is for messages.

    Raises:
        ManifestError: not JSON, of another schema version, malformed, or changed after it was written.
    """
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{url} is not JSON ({error}). Pack the dataset again, or restore the file.") from error
    _version(raw, url)
    try:
        manifest: Manifest = _ADAPTER.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{url} is malformed at '{place}': {first['msg']}. Restore it or pack again.") from error
    if manifest.sealed().digest != manifest.digest:
        expected = manifest.sealed().digest
        raise ManifestError(
            f"{url} was changed after it was written: its digest says {manifest.digest or 'nothing'}, "
            f"its content {expected}. Restore the file, or pack the dataset again."
        )
    return manifest


def is_packed(url: str) -> bool:
    """Whether a packed dataset is at `url`.

    Raises:
        StorageError: the storage can't be reached.
    """
    return storage.exists(storage.join(url, FILE_NAME))


def load_manifest(url: str) -> Manifest:
    """Read the manifest of the dataset at `url`.

    Raises:
        ManifestError: see `parse`.
        DataError: no dataset is there.
        StorageError: the storage can't be reached.
    """
    path = storage.join(url, FILE_NAME)
    if not storage.exists(path):
        raise DataError(
            f"No dataset at {url}: there is no {FILE_NAME}. "
            "Check data.url, or make the dataset with `i2idist data pack` (an unfinished pack has no manifest)."
        )
    return parse(storage.read_bytes(path), path)
