"""Small datasets for tests, and ways to harm them."""

import hashlib
import json
from pathlib import Path

import numpy as np

from i2idist import storage
from i2idist.data.manifest import to_json
from i2idist.data.pack import Sample, pack

HEIGHT, WIDTH = 6, 8


def picture(number, channels=3, bits=8, size=(HEIGHT, WIDTH)):
    """Noise that tells one sample from another."""
    generator = np.random.default_rng(number)
    return generator.integers(0, 2**bits, (*size, channels), dtype=np.uint8 if bits == 8 else np.uint16)


def paired_samples(count, split="train"):
    for number in range(count):
        images = {"a": picture(number, 1), "b": picture(1000 + number)}
        yield Sample(f"s{number:03d}", split, images, label=number % 3)


def make_paired(dest, count=20, shard_bytes=12_000):
    """Four samples a shard."""
    return pack(paired_samples(count), str(dest), name="pairs", role="paired", shard_bytes=shard_bytes, workers=1)


def make_unpaired(dest, a=13, b=20, shard_bytes=8_000, split="train"):
    samples = [Sample(f"a{n:03d}", split, {"a": picture(n, 1)}) for n in range(a)]
    samples += [Sample(f"b{n:03d}", split, {"b": picture(1000 + n)}) for n in range(b)]
    return pack(samples, str(dest), name="pools", role="unpaired", shard_bytes=shard_bytes, workers=1)


def flip_byte(path, offset):
    """Harm one byte of a local file."""
    data = bytearray(Path(path).read_bytes())
    data[offset] ^= 0xFF
    Path(path).write_bytes(data)


def index_of(url, shard):
    return json.loads(storage.read_bytes(storage.join(url, shard.index_name)))


def rewrite(url, manifest, change, split="train"):
    """Change the first shard of a split and seal everything again, as a careless or hostile writer would.

    `change(tar, index)` gets a bytearray and the parsed index, and edits them in place.
    """
    content = json.loads(to_json(manifest))
    shard = content["splits"][split][0]["shards"][0]
    tar_url = storage.join(url, shard["name"])
    index_url = tar_url.removesuffix(".tar") + ".json"
    tar, index = bytearray(storage.read_bytes(tar_url)), json.loads(storage.read_bytes(index_url))
    change(tar, index)
    shard["bytes"] = index["tar_bytes"] = len(tar)
    shard["sha256"] = index["tar_sha256"] = hashlib.sha256(tar).hexdigest()
    data = json.dumps(index).encode()
    shard["index_bytes"], shard["index_sha256"] = len(data), hashlib.sha256(data).hexdigest()
    storage.write_bytes(tar_url, bytes(tar))
    storage.write_bytes(index_url, data)
    write_manifest(url, content)


def write_manifest(url, content):
    """Write a manifest's content with a digest that fits it, whatever it says."""
    content = {key: value for key, value in content.items() if key != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    content["digest"] = hashlib.sha256(canonical).hexdigest()
    storage.write_bytes(storage.join(url, "manifest.json"), json.dumps(content).encode())
