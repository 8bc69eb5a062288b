"""The colour dataset of Yu et al. (arXiv:1805.04385), which mix-and-match networks and SDIT use.

Either folders of images, `train/blue/NAME.jpg`, or TensorFlow's record files as they are published with mix-and-match
networks, `train/domain_0.tfrecords`, each record with the features `image/file_name` and `image/encoded_image`. A class
is named by its folder or file. Of the published files 0 is blue, 1 brown, 3 green, 4 grey, 5 orange, 6 pink, 7 purple,
8 red and 9 white; 2 and 10 are black and yellow, and the published lists disagree which is which: look at
`i2idist data grid`. Files that are renamed (`blue.tfrecords`) give their classes these names.
"""

from __future__ import annotations

from i2idist.data.layouts.folders import class_folders
from i2idist.data.layouts.source import SPLITS, Source, files, only_images, origin, source, stored_order
from i2idist.data.layouts.tfrecords import Record, records
from i2idist.data.pack import Sample

_WANTED = "[train|test/]COLOR/NAME.jpg or train/NAME.tfrecords"


def colors(src: str) -> Source:
    """A folder or a file of TensorFlow records for each colour. `train/blue/NAME.jpg` or `train/domain_0.tfrecords`."""
    listed = files(src)
    found = [path for path in listed if path.suffix == ".tfrecords"]
    if not found and only_images(listed):
        return class_folders(src)
    classes = sorted({path.stem for path in found})
    samples = []
    for path in found:
        split, url = SPLITS.get(path.parent.name, "train"), origin(src, path)
        samples += [_sample(record, split, classes.index(path.stem), path.stem, url) for record in records(url)]
    samples.sort(key=lambda sample: (sample.split, stored_order(sample.key, sample.split)))
    return source("labelled", ("image",), samples, src, _WANTED, classes)


def _sample(record: Record, split: str, label: int, name: str, url: str) -> Sample:
    where = f"{url}, record {record.number} ({record.name})"
    return Sample(f"{name}/{record.number:06d}", split, {"image": record.read}, label, where)
