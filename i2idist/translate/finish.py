"""The end of a translation: the error report, the manifest, the census, and the word that all is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from i2idist import storage
from i2idist.data import manifest as manifests
from i2idist.data.manifest import SCHEMA_VERSION, ImageDomain, Manifest, Pool, Shard
from i2idist.errors import DataError
from i2idist.translate.job import ERRORS_FILE, JOB_FILE, SUCCESS_FILE, Job
from i2idist.translate.shard import Done


def finish(job: Job, results: Sequence[Done], begun: float) -> str:
    """Write what speaks of the whole, and take the census.

    Args:
        job: the job.
        results: of all items, in their order.
        begun: when this launch began, seconds since the epoch; unfinished files from before are removed.

    Returns:
        The digest of the translations as a dataset.

    Raises:
        DataError: nothing could be translated, or the folder doesn't hold what it must.
        StorageError: storage can't be reached.
    """
    manifest = _manifest(job, results)
    rows = error_rows(results)
    if rows:
        storage.write_bytes(job.file(ERRORS_FILE), error_lines(rows))
    else:
        storage.delete(job.file(ERRORS_FILE))
    storage.write_bytes(job.file(manifests.FILE_NAME), manifests.to_json(manifest))
    storage.sweep(job.url, begun)
    _take_census(job, results)
    success = {
        "job_digest": job.digest,
        "digest": manifest.digest,
        "shards": len(results),
        "inputs": sum(done.inputs for done in results),
        "outputs": sum(done.shard.count for done in results),
        "errors": len(rows),
    }
    storage.write_bytes(job.file(SUCCESS_FILE), to_bytes(success))
    return manifest.digest


def _manifest(job: Job, results: Sequence[Done]) -> Manifest:
    """The translations as a dataset of images, labelled as their inputs are."""
    full = [(job.inputs.items[done.item], done) for done in results if done.shard.count]
    if not full:
        raise DataError(f"None of the images at {job.inputs.url} could be translated: see {job.url}/*/*.errors.json.")
    sizes = {done.size for _, done in full}
    target = job.target
    domain = ImageDomain(target.name, target.channels, 8, sizes.pop() if len(sizes) == 1 else None, True)
    pools: dict[str, tuple[Pool, ...]] = {
        split: (Pool((target.name,), tuple(Shard(**vars(done.shard)) for item, done in full if item.split == split)),)
        for split in dict.fromkeys(item.split for item, _ in full)
    }
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=job.name,
        role="images",
        domains=(domain,),
        label_kind=job.inputs.label_kind,  # type: ignore[arg-type]  # from another manifest
        labels=job.inputs.labels,
        splits=pools,
    ).sealed()


def _take_census(job: Job, results: Sequence[Done]) -> None:
    """Hold what lies in the folder against what must lie there.

    Raises:
        DataError: a file is missing, cut short, or doesn't belong there.
    """
    expected: dict[str, int | None] = {name: size for done in results for name, size in done.files.items()}
    own = {JOB_FILE, ERRORS_FILE, manifests.FILE_NAME, SUCCESS_FILE}
    found = set(storage.walk(job.url))
    missing = sorted(expected.keys() - found)
    strange = sorted(found - expected.keys() - own)
    short = [name for name in expected.keys() & found if expected[name] not in (None, storage.size(job.file(name)))]
    for problem, names in (("are missing", missing), ("don't belong there", strange), ("have another size", short)):
        if names:
            raise DataError(
                f"{len(names)} files in {job.url} {problem}, such as {names[0]}: does another program write there? "
                "The same command mends what is missing; remove what doesn't belong."
            )


def error_rows(results: Sequence[Done]) -> list[dict[str, str]]:
    """The error report: shard, key and error of each image that couldn't be translated."""
    return [{"shard": done.shard.name, **row} for done in results for row in done.errors]


def error_lines(rows: Sequence[dict[str, str]]) -> bytes:
    """Rows as `errors.jsonl` has them."""
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def to_bytes(values: dict[str, Any]) -> bytes:
    """A mapping as a file of JSON."""
    return (json.dumps(values, indent=2) + "\n").encode()
