"""Files in published layouts, and what is in a dataset that was packed from them."""

from PIL import Image

from i2idist.data.images import decode
from i2idist.data.layouts import read_layout
from i2idist.data.pack import pack
from i2idist.data.source import PoolSource
from tests.data.samples import picture


def save(folder, name, pixels=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = picture(len(name)) if pixels is None else pixels
    Image.fromarray(pixels.squeeze()).save(path)


def packed(src, layout, dest, **options):
    source = read_layout(str(src), layout, **options)
    manifest = pack(
        source.samples, str(dest), name="d", role=source.role, domains=source.domains, labels=source.labels, workers=2
    )
    counted = sum(pool.count for pools in manifest.splits.values() for pool in pools)
    assert source.count in (counted, None)
    return manifest


def contents(dest, manifest, split, domain):
    """Pixels and labels by key."""
    source, spec = PoolSource(str(dest), manifest, split, domain, None), manifest.domain(domain)
    found = {}
    for number in range(source.pool.count):
        data, where = source.read(number, [domain])[0]
        pixels = decode(data, spec.channels, spec.bits, where).transpose(1, 2, 0) if data else None
        found[source.key(number)] = (pixels, source.label(number))
    source.close()
    return found


def labels(dest, manifest, split, domain="image"):
    """Labels by key."""
    return {key: label for key, (_, label) in contents(dest, manifest, split, domain).items()}
