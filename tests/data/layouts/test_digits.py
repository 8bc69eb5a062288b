import bz2
import gzip
import struct

import numpy as np
import pytest
from scipy.io import savemat

from i2idist import storage
from i2idist.data.layouts import archives, read_layout
from i2idist.errors import DataError
from tests.data.layouts.support import contents, labels, packed

MNIST = {"train": ("train", 5), "t10k": ("test", 3)}


def grey(number, side=28):
    return np.random.default_rng(number).integers(0, 256, (number, side, side), dtype=np.uint8)


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder, pack=gzip.compress, ending=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for part, (_, count) in MNIST.items():
        (folder / f"{part}-images-idx3-ubyte{ending}").write_bytes(pack(idx(grey(count))))
        (folder / f"{part}-labels-idx1-ubyte{ending}").write_bytes(pack(idx(np.arange(count, dtype=np.uint8))))
    return folder


def write_svhn(folder, splits=(("train", 4), ("test", 2)), **changed):
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in splits:
        x = np.random.default_rng(count).integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        y = np.array([[10], [1], [9], [2]], dtype=np.uint8)[:count]
        savemat(folder / f"{split}_32x32.mat", {"X": x, "y": y} | changed, do_compression=True)
    return folder


def write_usps(folder, splits=(("usps.bz2", 4), ("usps.t.bz2", 2))):
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in splits:
        rows = []
        for number in range(count):
            values = np.linspace(-1, 1, 256) if number % 2 else np.full(256, -1.0)
            rows.append(f"{number + 1} " + " ".join(f"{i}:{v:.6f}" for i, v in enumerate(values, 1)) + " \n")
        (folder / name).write_bytes(bz2.compress("".join(rows).encode()))
    return folder


@pytest.mark.parametrize("form", ["gz", "unpacked", "both", "dotted"])
def test_mnist(tmp_path, form):
    src = tmp_path / "MNIST" / "raw"
    if form in ("gz", "both"):
        write_mnist(src)
    if form != "gz":
        write_mnist(src, bytes, "")
    if form == "dotted":
        for path in src.iterdir():
            path.rename(src / path.name.replace("-idx", ".idx"))
    manifest = packed(tmp_path, "mnist", tmp_path / "d")
    assert (manifest.role, manifest.label_kind, manifest.labels) == ("labelled", "class", tuple("0123456789"))
    assert (manifest.domain("image").channels, manifest.domain("image").size) == (1, (28, 28))
    for split, count in MNIST.values():
        found = contents(tmp_path / "d", manifest, split, "image")
        assert {key: label for key, (_, label) in found.items()} == {f"{n:06d}": n for n in range(count)}
        assert all(np.array_equal(pixels[..., 0], grey(count)[int(key)]) for key, (pixels, _) in found.items())


def test_svhn(tmp_path):
    """MATLAB keeps samples last; 10 stands for the digit 0."""
    write_svhn(tmp_path / "src", (("train", 4), ("test", 2), ("extra", 3)))
    manifest = packed(tmp_path / "src", "svhn", tmp_path / "d")
    assert {split: counts["image"] for split, counts in manifest.counts.items()} == {"train": 4, "test": 2, "extra": 3}
    found = contents(tmp_path / "d", manifest, "train", "image")
    x = np.random.default_rng(4).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    assert {key: label for key, (_, label) in found.items()} == {"000000": 0, "000001": 1, "000002": 9, "000003": 2}
    assert all(np.array_equal(pixels, x[..., int(key)]) for key, (pixels, _) in found.items())


def test_usps(tmp_path):
    """LIBSVM's labels are one more than the digits, and its values lie between -1 and 1."""
    manifest = packed(write_usps(tmp_path / "src"), "usps", tmp_path / "d")
    found = contents(tmp_path / "d", manifest, "train", "image")
    assert {key: label for key, (_, label) in found.items()} == {f"{n:06d}": n for n in range(4)}
    assert not found["000000"][0].any()
    ramp = found["000001"][0][..., 0]
    assert ramp.shape == (16, 16)
    assert np.array_equal(ramp.reshape(-1), np.arange(256))
    assert manifest.counts["test"] == {"image": 2}


def test_digits_of_two_domains(tmp_path):
    write_mnist(tmp_path / "src" / "mnist")
    write_svhn(tmp_path / "src" / "svhn")
    write_usps(tmp_path / "src" / "usps")
    manifest = packed(tmp_path / "src", "mnist-svhn", tmp_path / "svhn")
    assert [(d.name, d.channels, d.size) for d in manifest.domains] == [("a", 1, (28, 28)), ("b", 3, (32, 32))]
    assert (manifest.role, manifest.counts["train"]) == ("unpaired", {"a": 5, "b": 4})
    assert labels(tmp_path / "svhn", manifest, "test", "b") == {"000000": 0, "000001": 1}
    manifest = packed(tmp_path / "src", "mnist-usps", tmp_path / "usps")
    assert manifest.counts == {"train": {"a": 5, "b": 4}, "test": {"a": 3, "b": 2}}


def test_an_archive_in_any_storage(tmp_path, memory_url):
    write_usps(tmp_path / "src")
    for path in (tmp_path / "src").iterdir():
        storage.upload(path, storage.join(memory_url, path.name))
    assert packed(memory_url, "usps", tmp_path / "d").counts["train"] == {"image": 4}


def test_packing_again_gives_the_same_dataset(tmp_path):
    """What continues a pack that was cut off."""
    write_svhn(tmp_path / "src")
    first, second = (packed(tmp_path / "src", "svhn", tmp_path / name) for name in "de")
    assert first.digest == second.digest


def test_some_digits(tmp_path):
    manifest = packed(write_usps(tmp_path / "src"), "usps", tmp_path / "d", labels=["1", "0"])
    assert labels(tmp_path / "d", manifest, "train") == {"000000": 1, "000001": 0}


def test_training_digits_are_stored_in_mixed_order(tmp_path):
    """A file may be sorted by digit; readers shuffle in blocks only."""
    write_usps(tmp_path, (("usps.bz2", 4), ("usps.t.bz2", 4)))
    samples = list(read_layout(str(tmp_path), "usps").samples)
    orders = [[sample.key for sample in samples if sample.split == split] for split in ("train", "test")]
    assert orders[1] == sorted(orders[0]) != orders[0]


@pytest.mark.parametrize(
    ("layout", "write", "name"),
    [
        ("mnist", write_mnist, "t10k-labels-idx1-ubyte"),
        ("svhn", write_svhn, "test_32x32.mat"),
        ("usps", write_usps, "usps.t.bz2"),
    ],
)
def test_a_missing_file_is_named(tmp_path, layout, write, name):
    write(tmp_path)
    next(path for path in tmp_path.iterdir() if path.name.startswith(name)).unlink()
    with pytest.raises(DataError, match=f"has no {name}, which .* needs. Download it again"):
        read_layout(str(tmp_path), layout)


def test_two_files_of_one_name_are_refused(tmp_path):
    write_mnist(tmp_path / "MNIST")
    write_mnist(tmp_path / "FashionMNIST")
    with pytest.raises(DataError, match="train-images-idx3-ubyte is there 2 times: .*Give a folder that holds one"):
        read_layout(str(tmp_path), "mnist")


FILES = [
    ("mnist", write_mnist, "train-images-idx3-ubyte.gz"),
    ("mnist", lambda folder: write_mnist(folder, bytes, ""), "train-labels-idx1-ubyte"),
    ("svhn", write_svhn, "train_32x32.mat"),
    ("usps", write_usps, "usps.bz2"),
]


@pytest.mark.parametrize(("layout", "write", "name"), FILES)
def test_a_file_that_was_cut_off_is_named(tmp_path, layout, write, name):
    path = write(tmp_path) / name
    whole = path.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=rf"{name} is damaged, or isn't the published file: .*Download it again"):
            list(read_layout(str(tmp_path), layout).samples)


@pytest.mark.parametrize(("layout", "write", "name"), FILES)
def test_a_harmed_file_is_an_error_or_digits(tmp_path, layout, write, name):
    """Whatever byte is wrong, nothing but a DataError leaves."""
    path = write(tmp_path) / name
    whole = path.read_bytes()
    for number in range(60):
        places = np.random.default_rng(number).integers(0, len(whole), 2)
        harmed = bytearray(whole)
        for place in places:
            harmed[place] ^= 1 << number % 8
        path.write_bytes(harmed)
        try:
            for sample in read_layout(str(tmp_path), layout).samples:
                assert sample.label in range(10)
        except DataError as error:
            assert name in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"X": np.zeros((32, 32, 3, 4))}, "X is double of shape"),
        ({"X": np.zeros((32, 32, 4), np.uint8)}, "not uint8 of"),
        ({"X": np.array([{"a": 1}], dtype=object)}, "X is (cell|struct)"),
        ({"y": np.zeros((3, 1), np.uint8)}, "not 4 numbers"),
        ({"y": np.full((4, 1), 11, np.uint8)}, "labels aren't 1 to 10"),
        ({"y": np.full((4, 1), 0.5)}, "labels aren't 1 to 10"),
    ],
)
def test_a_mat_file_of_other_things_is_refused(tmp_path, changed, message):
    write_svhn(tmp_path)
    write_svhn(tmp_path, (("train", 4),), **changed)
    with pytest.raises(DataError, match=rf"train_32x32\.mat is damaged, or isn't the published file: .*{message}"):
        list(read_layout(str(tmp_path), "svhn").samples)


@pytest.mark.parametrize("row", ["11 1:0", "1 1:1.5", "1 257:1", "1 1:nan", "1.5 1:0", "<html>", "1 0:0"])
def test_usps_rows_of_other_things_are_refused(tmp_path, row):
    write_usps(tmp_path)
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(f"{row}\n".encode()))
    with pytest.raises(DataError, match=r"usps\.bz2 is damaged, or isn't the published file"):
        list(read_layout(str(tmp_path), "usps").samples)


def test_idx_headers_that_lie_are_refused(tmp_path):
    write_mnist(tmp_path, bytes, "")
    path = tmp_path / "train-images-idx3-ubyte"
    for header in (
        struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**16, 2**16),
        struct.pack(">BBBB3I", 0, 0, 13, 3, 1, 1, 1),
    ):
        path.write_bytes(header + b"\0")
        with pytest.raises(DataError, match="its header promises|doesn't begin as an idx file"):
            list(read_layout(str(tmp_path), "mnist").samples)
    path.write_bytes(idx(grey(4)))
    with pytest.raises(DataError, match="train-labels-idx1-ubyte .* has 5 labels for 4 images"):
        list(read_layout(str(tmp_path), "mnist").samples)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.full(4, 12, np.uint8)))
    with pytest.raises(DataError, match="has the label 12, which is no digit"):
        list(read_layout(str(tmp_path), "mnist").samples)


@pytest.mark.parametrize(("pack", "ending"), [(gzip.compress, ".gz"), (bytes, "")])
def test_files_that_hold_too_much_are_refused(tmp_path, monkeypatch, pack, ending):
    """A few megabytes of zeros pack into kilobytes."""
    monkeypatch.setattr(archives, "MAX_BYTES", 1 << 20)
    path = tmp_path / f"zeros{ending}"
    path.write_bytes(pack(bytes(2 << 20)))
    with pytest.raises(DataError, match="holds more than 1048576 bytes. It isn't"):
        archives.unpacked(str(path))
