"""One work item: a shard of images becomes a shard of translations.

```
SPLIT/POOL-00000.tar          the translations, `KEY-CODE.png`, and the labels of their inputs; samples, `KEY.png`
SPLIT/POOL-00000.errors.json  the inputs that couldn't be translated, where there are any
SPLIT/POOL-00000.json         the index with the tar's digest, written last: without it the shard isn't finished
```
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from i2idist import storage
from i2idist.data.images import Array, Format, encode
from i2idist.data.pool_writer import Prepared, ShardWriter, source_of
from i2idist.data.shards import Label, ShardIndex, hash_file, parse_index, to_json
from i2idist.data.source import PATIENCE_S
from i2idist.data.transforms import to_pixels, to_unit
from i2idist.errors import DataError, I2IError, SampleError, ShardError, SizeError
from i2idist.method import Method
from i2idist.translate.forward import Forward
from i2idist.translate.inputs import CodeReader, InputReader, Item, resized
from i2idist.translate.job import SUCCESS_FILE, Job

Report = Callable[[int], None]
"""Told how many samples of an item are done."""

_DAMAGED = ShardError.__name__
"""The kind of error that a repaired dataset is free of, though its digest is the same."""

Errors = dict[int, I2IError]
"""Why samples can't be translated, by row."""

STAGES = ("read", "forward", "encode", "write")


@dataclass(frozen=True)
class Entry:
    """A shard of the output; the same as a manifest's `Shard`, but it may be empty."""

    name: str
    count: int
    bytes: int
    sha256: str
    index_bytes: int
    index_sha256: str


@dataclass(frozen=True)
class Done:
    """A finished work item.

    Attributes:
        item: the item's number.
        shard: the shard that it became.
        size: (height, width) of all outputs, None where they differ.
        inputs: images that were translated.
        errors: a row for each that couldn't be: key, kind (`SampleError`: can't be decoded; `ShardError`: damaged in
            storage; `SizeError`: not of a size that the model takes; `DataError`: the output isn't finite) and error.
        kept: whether it was found finished.
        seconds: spent in each stage.
    """

    item: int
    shard: Entry
    size: tuple[int, int] | None
    inputs: int
    errors: list[dict[str, str]]
    kept: bool
    seconds: dict[str, float]

    @property
    def files(self) -> dict[str, int | None]:
        """The shard's files, and their bytes where they are known."""
        shard = self.shard
        files: dict[str, int | None] = {shard.name: shard.bytes, index_name(shard.name): shard.index_bytes}
        return files | ({errors_name(shard.name): None} if self.errors else {})


def index_name(shard: str) -> str:
    """The name of a shard's index."""
    return shard.removesuffix(".tar") + ".json"


def errors_name(shard: str) -> str:
    """The name of a shard's error rows."""
    return shard.removesuffix(".tar") + ".errors.json"


@dataclass(frozen=True)
class _Input:
    """An image that was read: its row in the item, and (C, H, W) float in [-1, 1]."""

    row: int
    image: Tensor


class ShardTranslator:
    """Translates work items; every worker makes one, which loads the model once."""

    def __init__(self, job: Job) -> None:
        """Load the job's model and compute with the job's threads from now on.

        Raises:
            SourceError: the model isn't there, or no longer the one of the job.
        """
        self._job, self._options = job, job.options
        self._forward_images = Forward(job)
        self._reader = reader_of(job, self._forward_images.method)
        self._threads = ThreadPoolExecutor(job.options.threads, "i2idist-images")
        self._seconds: dict[str, float] = {}

    def close(self) -> None:
        """Let go of files and threads."""
        self._threads.shutdown()
        self._reader.close()

    def __call__(self, item: Item, report: Report) -> Done:
        """Translate an item, unless it is finished and unharmed. A store that goes away is waited for.

        Raises:
            DataError: its shard can't be opened, or has more bad images than the job may have.
            StorageError: storage can't be reached.
        """
        self._seconds = dict.fromkeys(STAGES, 0.0)
        with storage.patience(PATIENCE_S), tempfile.TemporaryDirectory(prefix="i2idist-") as folder:
            return self._find_finished(item, Path(folder)) or self._make(item, Path(folder), report)

    def _find_finished(self, item: Item, folder: Path) -> Done | None:
        """The item as another run of the job left it, if it was finished and no byte has changed."""
        url = self._job.file(item.name)
        index_url = self._job.file(index_name(item.name))
        if not (storage.exists(index_url) and storage.exists(url)):
            return None
        data = storage.read_bytes(index_url)
        rows = self._stored_errors(item)
        try:
            index = parse_index(data, index_url)
        except ShardError:
            return None
        if index.source != source_of(self._made_from(item, rows), []):
            return None
        errors = json.loads(rows or b"[]")
        if any(row["kind"] == _DAMAGED for row in errors):
            return None
        found = storage.local_path(url) if storage.is_local(url) else folder / "found.tar"
        if not storage.is_local(url):
            storage.download(url, found)
        return self._done(item, index, data, errors, kept=True) if hash_file(found) == index.tar_sha256 else None

    def _stored_errors(self, item: Item) -> bytes:
        url = self._job.file(errors_name(item.name))
        return storage.read_bytes(url) if storage.exists(url) else b""

    def _made_from(self, item: Item, errors: bytes) -> str:
        """Names what a shard was made from, by which it is recognised when the job runs again."""
        return f"{self._job.digest} {item.name} {item.start} {item.sha256} {hashlib.sha256(errors).hexdigest()}\n"

    def _make(self, item: Item, folder: Path, report: Report) -> Done:
        self._reader.open(item)
        writer, errors = ShardWriter(folder / "shard.tar", [self._job.target.name]), Errors()
        for start in range(0, item.count, self._options.batch_size):
            rows = range(start, min(start + self._options.batch_size, item.count))
            for group in _alike(self._read(item, rows, errors)):
                self._translate(item, group, writer, errors)
            if len(errors) > self._job.max_errors:
                raise DataError(f"{too_many(self._job)} in {item.name} alone; the last: {errors[max(errors)]}")
            report(rows.stop)
        bad = [self._row(item, row, errors[row]) for row in sorted(errors)]
        with self._clock("write"):
            # Another process may be at the same job: what it finished meanwhile stays as it is.
            return self._find_finished(item, folder) or self._store(item, writer, bad)

    def _read(self, item: Item, rows: range, errors: Errors) -> list[_Input]:
        """The images of `rows` that can be read; the reasons for the others go to `errors`."""
        with self._clock("read"):
            found = list(self._threads.map(functools.partial(self._read_one, item), rows))
        errors |= {row: one for row, one in zip(rows, found, strict=True) if isinstance(one, I2IError)}
        return [_Input(row, one) for row, one in zip(rows, found, strict=True) if isinstance(one, Tensor)]

    def _read_one(self, item: Item, row: int) -> Tensor | I2IError | None:
        """An image, or why it can't be read; None where the sample has none in this domain."""
        try:
            with storage.patience(PATIENCE_S):  # this is another thread than the caller's
                pixels = self._reader.read(item, row)
        except (SampleError, ShardError) as error:
            return error
        if pixels is None:
            return None
        return to_unit(resized(pixels, self._job.size, self._job.sources))

    def _translate(self, item: Item, group: Sequence[_Input], writer: ShardWriter, errors: Errors) -> None:
        """Translate images of one size and append the outputs."""
        try:
            with self._clock("forward"):
                outputs = self._forward(item, group)
        except SizeError as error:
            errors |= {one.row: error for one in group}
            return
        finite = outputs.isfinite().flatten(1).all(1)
        problem = DataError("The model's output isn't finite for this image.")
        errors |= {one.row: problem for one, fine in zip(group, finite.tolist(), strict=True) if not fine}
        with self._clock("encode"):
            files = iter(list(self._threads.map(_encode, outputs[finite].flatten(0, 1))))
        with self._clock("write"):
            for one in itertools.compress(group, finite.tolist()):
                key, label = self._reader.key(item, one.row), self._reader.label(item, one.row)
                for code in range(outputs.shape[1]):
                    name = key if self._job.inputs.are_codes else f"{key}-{code}"
                    self._append(writer, name, label, next(files))

    def _forward(self, item: Item, group: Sequence[_Input]) -> Tensor:
        """(N, K, C, H, W) float in [-1, 1] on the CPU."""
        positions = torch.tensor([item.start + one.row for one in group])
        images = torch.stack([one.image for one in group])
        return self._forward_images(images, positions, self._options.num_samples, self._options.seed)

    def _append(self, writer: ShardWriter, key: str, label: Label, file: tuple[bytes, Format]) -> None:
        files = {self._job.target.name: file}
        writer.add(Prepared(key, label, b"", files, lambda: files), files)

    def _row(self, item: Item, row: int, error: I2IError) -> dict[str, str]:
        """A row of the error report. It names places below the dataset, wherever that lies."""
        text = str(error).replace(f"{self._job.inputs.folder}/", "")
        return {"key": self._reader.key(item, row), "kind": type(error).__name__, "error": text}

    def _store(self, item: Item, writer: ShardWriter, rows: list[dict[str, str]]) -> Done:
        """Put the shard in place, its index last. The job isn't complete until all of them are there again."""
        errors = (json.dumps(rows, indent=1) + "\n").encode() if rows else b""
        index = writer.done(self._made_from(item, errors))
        url = self._job.file(item.name)
        index_url, errors_url = self._job.file(index_name(item.name)), self._job.file(errors_name(item.name))
        storage.delete(self._job.file(SUCCESS_FILE))
        storage.upload(writer.path, url)
        if errors:
            storage.write_bytes(errors_url, errors)
        else:
            storage.delete(errors_url)
        data = to_json(index)
        storage.write_bytes(index_url, data)
        return self._done(item, index, data, rows, kept=False)

    def _done(self, item: Item, index: ShardIndex, data: bytes, rows: list[dict[str, str]], *, kept: bool) -> Done:
        digest = hashlib.sha256(data).hexdigest()
        found = Entry(item.name, len(index), index.tar_bytes, index.tar_sha256, len(data), digest)
        inputs = len(index) // self._options.num_samples
        return Done(item.number, found, index.columns[self._job.target.name].size, inputs, rows, kept, self._seconds)

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._seconds[stage] += time.perf_counter() - begun


def reader_of(job: Job, method: Method) -> InputReader:
    """What reads a job's images, or stands for those of a generator."""
    if job.inputs.are_codes:
        return CodeReader(job.inputs, method, job.options.target)
    return InputReader(job.inputs, job.source.channels)


def too_many(job: Job) -> str:
    """The head of a message about errors beyond the budget."""
    return f"More than {job.max_errors} images can't be translated (--max-errors)"


def _alike(inputs: Sequence[_Input]) -> list[list[_Input]]:
    """Runs of neighbours of one size, in order."""
    return [list(run) for _, run in itertools.groupby(inputs, key=lambda one: tuple(one.image.shape))]


def _encode(output: Tensor) -> tuple[bytes, Format]:
    pixels: Array = to_pixels(output)
    return encode(pixels, "a translation")
