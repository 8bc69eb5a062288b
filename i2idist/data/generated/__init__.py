"""Generated datasets: made in seconds, the same from a seed on any machine, with ground truth.

A recipe names one by URL: `generated:digits`, `generated:edges?size=64&train=500`, `generated:maps?size=64x96&seed=3`,
`generated:textures?bias=colour&ratio=10`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from urllib.parse import parse_qsl

from i2idist import storage
from i2idist.data.cache import default_folder
from i2idist.data.generated._datasets import GENERATED, Generator, Parameters
from i2idist.data.manifest import Manifest, load_manifest
from i2idist.data.pack import pack
from i2idist.errors import ConfigError, StorageError, nearest

__all__ = ["GENERATED", "SCHEME", "Generator", "Parameters", "generate", "is_generated", "resolve"]

SCHEME = "generated:"
DEFAULT_SIZE = 32
SIZES = range(16, 2049)
"""Heights and widths that can be generated, in pixels: below, digits can't be read."""

Progress = Callable[[int], None]


def is_generated(url: str) -> bool:
    """Whether `url` names a generated dataset."""
    return url.startswith(SCHEME)


def generate(
    name: str,
    dest_url: str,
    *,
    size: tuple[int, int] | int = DEFAULT_SIZE,
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
    seed: int = 0,
    choices: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Make a generated dataset and pack it.

    Args:
        name: a key of GENERATED.
        dest_url: folder of the dataset; must hold none yet.
        size: side, or (H, W), in pixels.
        train: samples of the split, None for the dataset's default, 0 to leave the split out. In `digits`, pool a
            has at most as many samples as the split has scans.
        val: likewise.
        test: likewise.
        seed: other seeds give other samples.
        choices: the dataset's own parameters, see `Generator.choices`.
        progress: called with the number of samples packed so far.

    Returns:
        The manifest, as it was written.

    Raises:
        ConfigError: an unknown name, or a parameter out of range.
        DataError: a dataset is at `dest_url` already.
        StorageError: the storage refuses, or can't be reached.
    """
    generator = _generator(name)
    counts = {
        **generator.counts,
        **{k: v for k, v in (("train", train), ("val", val), ("test", test)) if v is not None},
    }
    pixels = size if isinstance(size, tuple) else (size, size)
    chosen = {**_defaults(generator), **(choices or {})}
    for key, value in chosen.items():
        _check_choice(name, generator, key, value)
    return _pack(name, _checked(name, Parameters(size=pixels, seed=seed, choices=chosen, **counts)), dest_url, progress)


def resolve(url: str, cache_root: str | None = None, progress: Progress | None = None) -> str:
    """The URL of a dataset that can be read: `generated:` datasets are made on first use, other URLs pass through.

    Args:
        url: `generated:NAME?parameter=value&...`, with the parameters of `generate`, or any other dataset URL.
        cache_root: local folder that keeps generated datasets, one folder for each set of parameters; None: beside this
            machine's cache of shards.
        progress: called with the number of samples packed so far.

    Returns:
        `url` itself, or the folder of the generated dataset: whole, however many processes ask at once.

    Raises:
        ConfigError: an unknown name or parameter, or a value that can't be used.
        StorageError: the folder can't be written.
    """
    if not is_generated(url):
        return url
    name, parameters = parse(url)
    root = storage.local_path(cache_root) if cache_root else default_folder().parent / "generated"
    dest = root / f"{name}-{_digest(name, parameters)[:16]}"
    if not dest.exists():
        unfinished = root / f".{dest.name}.{uuid.uuid4().hex}"
        try:
            _pack(name, parameters, str(unfinished), progress)
            _publish(str(unfinished), str(dest))
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    load_manifest(str(dest))
    return str(dest)


def parse(url: str) -> tuple[str, Parameters]:
    """The name and the parameters that a `generated:` URL asks for.

    Raises:
        ConfigError: an unknown name or parameter, or a value that can't be used.
    """
    name, _, query = url.removeprefix(SCHEME).partition("?")
    generator = _generator(name)
    values: dict[str, int] = {"seed": 0, **generator.counts}
    choices = _defaults(generator)
    size, seen = (DEFAULT_SIZE, DEFAULT_SIZE), set()
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key in seen:
            raise ConfigError(f"{url} gives '{key}' twice. Give it once.")
        seen.add(key)
        if key == "size":
            sides = [_integer(url, key, side) for side in text.split("x", 1)]
            size = (sides[0], sides[-1])
        elif key in values:
            values[key] = _integer(url, key, text)
        elif key in choices:
            _check_choice(url, generator, key, text)
            choices[key] = text
        else:
            raise ConfigError(f"{url} has an unknown parameter '{key}'.{nearest(key, ['size', *values, *choices])}")
    return name, _checked(url, Parameters(size=size, choices=choices, **values))


def _defaults(generator: Generator) -> dict[str, str]:
    return {key: values[0] for key, values in generator.choices.items()}


def _check_choice(where: str, generator: Generator, key: str, value: str) -> None:
    if key not in generator.choices:
        raise ConfigError(f"{where} has no choice '{key}'.{nearest(key, generator.choices)}")
    known = generator.choices[key]
    if value not in known:
        raise ConfigError(f"{where}: {key} is '{value}', which is none of {', '.join(known)}.{nearest(value, known)}")


def _generator(name: str) -> Generator:
    if name not in GENERATED:
        raise ConfigError(f"There is no generated dataset '{name}'.{nearest(name, GENERATED)}")
    return GENERATED[name]


def _integer(url: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        example = "size=32 or size=64x96 (height x width)" if key == "size" else f"{key}=100"
        raise ConfigError(f"{url}: {key} is {text!r}, not a whole number. Write e.g. {example}.")
    return int(text)


def _checked(where: str, parameters: Parameters) -> Parameters:
    if any(side not in SIZES for side in parameters.size):
        height, width = parameters.size
        raise ConfigError(
            f"{where}: size {height}x{width} can't be generated. Use {SIZES[0]} to {SIZES[-1]} pixels a side."
        )
    for key in ("train", "val", "test", "seed"):
        if asdict(parameters)[key] < 0:
            raise ConfigError(f"{where}: {key} is {asdict(parameters)[key]}. Use 0 or more.")
    if not parameters.splits():
        raise ConfigError(f"{where}: every split is empty. Give train, val or test at least 1.")
    return parameters


def _digest(name: str, parameters: Parameters) -> str:
    content = {"name": name, "revision": GENERATED[name].revision, **asdict(parameters)}
    content |= content.pop("choices")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _pack(name: str, parameters: Parameters, dest: str, progress: Progress | None) -> Manifest:
    generator = GENERATED[name]
    samples = generator.samples(parameters)
    return pack(
        samples,
        dest,
        name=name,
        role=generator.role,
        domains=generator.domains(parameters),
        labels=generator.labels(parameters),
        progress=progress,
    )


def _publish(unfinished: str, dest: str) -> None:
    """Rename a finished folder into place; where another process was first, its folder, equal to ours, stands."""
    try:
        os.rename(unfinished, dest)
    except OSError as error:
        if not os.path.isdir(dest):
            raise StorageError(f"Can't move the generated dataset to {dest}: {error}. Remove what is there.") from error
