"""Whole jobs in one process: what they write, and that nothing but data, weights and options decides it."""

import io
import os
import shutil
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i2idist import storage
from i2idist.data.batches import Labelled
from i2idist.data.layouts import read_layout
from i2idist.data.manifest import load_manifest
from i2idist.data.pack import pack
from i2idist.data.reader import DataSettings, Reader
from i2idist.data.verify import verify
from i2idist.errors import ConfigError, DataError, SourceError
from i2idist.model import Translator, load, save
from i2idist.translate import Options, Progress, translate
from tests.data.samples import flip_byte

TWO = Options(num_samples=2, seed=1, batch_size=5)


def job(model, data, out, options=TWO, **settings):
    return translate(model, data, str(out), options, launcher="local", **settings)


def read_all(url, split, **settings):
    reader = Reader(
        DataSettings(url=url, split=split, **settings),
        role=Labelled,
        batch_size=64,
        group_size=1,
        rank=0,
        world_size=1,
        seed=0,
    )
    try:
        return [(reader.keys(batch), batch.x, batch.y) for batch in reader.epoch()]
    finally:
        reader.close()


def shard_names(url, split="test"):
    """The shards of a dataset's first pool, without `.tar`: a translation's are called as its input's."""
    return [shard.name.removesuffix(".tar") for shard in load_manifest(url).splits[split][0].shards]


def test_every_image_gets_every_code_and_the_output_is_a_dataset(segan, digits, tmp_path):
    seen: list[Progress] = []
    result = job(segan, digits, tmp_path, on_progress=seen.append)
    assert Path(result.url).name == f"tiny-{result.job_digest[:12]}"
    assert (result.inputs, result.outputs, result.errors, result.kept) == (78, 156, 0, 0)
    assert (seen[-1].done, seen[-1].total) == (78, 78)
    assert seen[-1].images_per_s > 0
    assert result.limited_by in result.stages
    manifest = load_manifest(result.url)
    assert manifest.digest == result.digest
    assert not verify(result.url, decode_images=True).problems
    (keys, inputs, labels), (more, others, _) = read_all(digits, "test", domains=("a",))
    inputs = torch.cat([inputs, others])
    found = read_all(result.url, "test")
    whole = load(segan).translate(inputs, num_samples=2, seed=1).flatten(0, 1)
    pixels = torch.cat([images for _, images, _ in found])
    assert (pixels - whole).abs().max() <= 1 / 255 + 1e-5
    assert (pixels[::2] - pixels[1::2]).abs().max() > 0.1
    assert [key for part, _, _ in found for key in part] == [f"{key}-{code}" for key in keys + more for code in (0, 1)]
    assert found[0][2].tolist()[::2] == labels[:32].tolist()


def test_tars_have_fixed_headers_and_the_index_comes_after(segan, shards, tmp_path):
    result = job(segan, shards, tmp_path)
    names = shard_names(shards)
    with tarfile.open(fileobj=io.BytesIO(storage.read_bytes(f"{result.url}/{names[1]}.tar"))) as tar:
        members = tar.getmembers()
        assert members[0].name == "s012-0.png"
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}
        assert Image.open(tar.extractfile(members[0])).size == (16, 16)
    assert sorted(storage.walk(result.url))[:4] == ["_SUCCESS", "job.json", "manifest.json", f"{names[0]}.json"]


def test_a_kill_at_any_write_changes_no_byte(segan, shards, tmp_path, tree, monkeypatch):
    whole = job(segan, shards, tmp_path / "whole")
    expected = tree(whole.url)
    names = ("write_bytes", "upload", "delete")
    originals = {name: getattr(storage, name) for name in names}
    calls, until = 0, 0

    def counting(name):
        def call(*arguments, **settings):
            nonlocal calls
            calls += 1
            if until and calls == until:
                if name == "upload":  # half of the file is there, under the name that a killed writer leaves
                    target = Path(arguments[1])
                    target.parent.mkdir(parents=True, exist_ok=True)
                    left = target.with_name(f".{target.name}.{'0' * 32}.tmp")
                    left.write_bytes(arguments[0].read_bytes()[:700])
                raise KeyboardInterrupt
            return originals[name](*arguments, **settings)

        return call

    for name in names:
        monkeypatch.setattr(storage, name, counting(name))
    job(segan, shards, tmp_path / "count")
    total, kept = calls, []
    assert total > 15
    for until in range(1, total + 1):
        out, calls = tmp_path / f"killed-{until}", 0
        with pytest.raises(KeyboardInterrupt):
            job(segan, shards, out)
        assert not (out / Path(whole.url).name / "_SUCCESS").exists()
        until = 0
        kept.append(job(segan, shards, out).kept)
        assert tree(str(out / Path(whole.url).name)) == expected
    assert kept == sorted(kept)
    assert set(kept) == {0, 1, 2, 3, 4}


def test_finished_shards_are_kept_and_harmed_ones_made_anew(segan, shards, tmp_path, tree):
    result = job(segan, shards, tmp_path)
    expected = tree(result.url)
    names, folder = shard_names(shards), Path(result.url)
    times = {name: (folder / f"{name}.tar").stat().st_mtime_ns for name in names}
    assert job(segan, shards, tmp_path).kept == 4
    flip_byte(folder / f"{names[0]}.tar", 600)
    (folder / f"{names[1]}.json").unlink()
    (folder / f"{names[2]}.tar").write_bytes(expected[f"{names[2]}.tar"][:-600])
    again = job(segan, shards, tmp_path)
    assert again.kept == 1
    assert tree(result.url) == expected
    assert [name for name in names if (folder / f"{name}.tar").stat().st_mtime_ns != times[name]] == names[:3]


@pytest.mark.parametrize("moment", ["upload", "copyfile", "write_bytes"])
def test_the_same_job_twice_at_once(segan, shards, tmp_path, tree, monkeypatch, moment):
    """The second does all of its work while the first is about to store a shard, or has half of it in place."""
    expected = tree(job(segan, shards, tmp_path / "whole").url)
    module = shutil if moment == "copyfile" else storage
    original, inner = getattr(module, moment), []

    def call(*arguments, **settings):
        if moment == "copyfile":
            original(*arguments, **settings)
        if not inner and "samples-00001" in str(arguments[:2]):
            inner.append(None)
            if moment == "copyfile":
                os.utime(arguments[1], (time.time() + 60,) * 2)  # still being written while the other job ends
            inner[0] = job(segan, shards, tmp_path / "out")
        return None if moment == "copyfile" else original(*arguments, **settings)

    monkeypatch.setattr(module, moment, call)
    outer = job(segan, shards, tmp_path / "out")
    assert (inner[0].digest, inner[0].outputs) == (outer.digest, outer.outputs)
    assert tree(outer.url) == expected


def test_a_complete_job_that_was_harmed_is_not_called_complete_until_it_is(segan, shards, tmp_path, monkeypatch):
    result = job(segan, shards, tmp_path)
    next(Path(result.url, "test").glob("samples-00002*.tar")).unlink()

    def upload(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "upload", upload)
    with pytest.raises(KeyboardInterrupt):
        job(segan, shards, tmp_path)
    assert not Path(result.url, "_SUCCESS").exists()


def test_a_shard_of_another_job_is_not_taken_for_ours(segan, shards, tmp_path, tree):
    first, second = (job(segan, shards, tmp_path, Options(seed=seed)) for seed in (1, 2))
    expected = tree(second.url)
    for suffix in (".tar", ".json"):
        name = shard_names(shards)[0] + suffix
        storage.write_bytes(f"{second.url}/{name}", storage.read_bytes(f"{first.url}/{name}"))
    assert job(segan, shards, tmp_path, Options(seed=2)).kept == 3
    assert tree(second.url) == expected


def test_the_digest_covers_weights_data_and_options(segan, plain, shards, digits, tmp_path):
    base = job(segan, shards, tmp_path)
    others = [
        job(plain, shards, tmp_path, Options()),
        job(segan, digits, tmp_path),
        job(segan, digits, tmp_path, split="train"),
        *(
            job(segan, shards, tmp_path, Options(**{"num_samples": 2, "seed": 1, "batch_size": 5, **change}))
            for change in ({"num_samples": 1}, {"seed": 2}, {"batch_size": 4}, {"threads": 2}, {"size": (32, 32)})
        ),
    ]
    assert len({base.job_digest, *(other.job_digest for other in others)}) == 1 + len(others)
    assert job(segan, shards, tmp_path, Options(num_samples=2, seed=1, batch_size=5, size=(16, 16))).kept == 4


def test_a_folder_gives_what_the_same_images_packed_give(segan, photos, tmp_path, tree):
    Path(photos, "broken.png").unlink()
    Path(photos, "more", "colour.png").unlink()
    source = read_layout(photos, "folder")
    pack(source.samples, str(tmp_path / "packed"), name="photos", role=source.role)
    folder, packed = job(segan, photos, tmp_path / "out"), job(segan, str(tmp_path / "packed"), tmp_path / "out")
    assert folder.outputs == packed.outputs == 16
    (name,) = shard_names(packed.url, "train")
    assert tree(folder.url)["train/samples-00000.tar"] == tree(packed.url)[f"{name}.tar"]


def test_bad_images_become_rows_and_shift_nothing(segan, photos, tmp_path, tree, errors_of):
    with_bad = job(segan, photos, tmp_path / "out")
    assert (with_bad.inputs, with_bad.outputs, with_bad.errors) == (9, 18, 1)
    (row,) = errors_of(with_bad.url)
    assert (row["key"], row["shard"], row["kind"]) == ("broken", "train/samples-00000.tar", "SampleError")
    assert "can't be decoded" in row["error"]
    assert photos not in row["error"]
    expected = tree(with_bad.url)
    assert "train/samples-00000.errors.json" in expected
    assert job(segan, photos, tmp_path / "out").kept == 1
    assert tree(with_bad.url) == expected
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(Path(photos, "broken.png"))
    mended = job(segan, photos, tmp_path / "out")
    assert (mended.errors, mended.url != with_bad.url) == (0, True)
    one, other = (dict(pixels_by_key(url)) for url in (with_bad.url, mended.url))
    assert other.keys() - one.keys() == {"broken-0", "broken-1"}
    assert all(np.abs(one[key].astype(int) - other[key].astype(int)).max() <= 1 for key in one)


def pixels_by_key(url):
    with tarfile.open(fileobj=io.BytesIO(storage.read_bytes(f"{url}/train/samples-00000.tar"))) as tar:
        for member in tar:
            yield member.name.removesuffix(".png"), np.asarray(Image.open(tar.extractfile(member)))


def test_more_errors_than_the_budget_end_the_job_which_goes_on_with_a_larger_one(segan, photos, tmp_path, tree):
    with pytest.raises(DataError, match=r"More than 0 images .*--max-errors.*broken"):
        job(segan, photos, tmp_path, max_errors=0)
    assert not list(tmp_path.glob("*/_SUCCESS"))
    result = job(segan, photos, tmp_path, max_errors=1)
    assert result.errors == 1
    whole = tree(result.url)
    with pytest.raises(DataError, match=r"such as train/samples-00000.tar broken"):  # of a shard that was kept
        job(segan, photos, tmp_path, max_errors=0)
    assert tree(result.url) == whole


def test_a_damaged_sample_of_a_dataset_is_a_row(segan, shards, tmp_path, tree, errors_of):
    copy = tmp_path / "copy"
    for name, data in tree(shards).items():
        storage.write_bytes(str(copy / name), data)
    shard = copy / f"{shard_names(shards)[1]}.tar"
    flip_byte(shard, 600)
    result = job(segan, str(copy), tmp_path / "out")
    assert (result.inputs, result.errors) == (39, 1)
    (row,) = errors_of(result.url)
    assert row["key"] == "s012"
    assert (row["kind"], "CRC-32" in row["error"]) == ("ShardError", True)
    flip_byte(shard, 600)  # repaired, to the same digest
    assert job(segan, str(copy), tmp_path / "out").errors == 0
    assert (
        tree(result.url)["test/" + Path(shard).name]
        == tree(job(segan, shards, tmp_path / "whole").url)["test/" + Path(shard).name]
    )
    shard.unlink()
    with pytest.raises(DataError, match="missing"):
        job(segan, str(copy), tmp_path / "other")


def test_nothing_translated_is_an_error(segan, photos, tmp_path):
    for path in Path(photos).rglob("*.*"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="None of the images"):
        job(segan, photos, tmp_path)


def test_sizes(plain, photos, tmp_path, errors_of):
    Path(photos, "broken.png").unlink()
    sizes = {"trained": {(16, 16)}, (32, 16): {(16, 32)}}
    for size, expected in sizes.items():
        result = job(plain, photos, tmp_path, Options(size=size))
        assert {image.shape[1::-1] for _, image in pixels_by_key(result.url)} == expected
    stored = job(plain, photos, tmp_path, Options(size="stored"))
    assert (stored.inputs, stored.errors) == (8, 1)
    (row,) = errors_of(stored.url)
    assert row["key"] == "more/small"
    assert "multiples" in row["error"]


def test_an_output_that_is_not_finite_is_an_error_of_that_image(segan, shards, tmp_path, monkeypatch, errors_of):
    original = Translator.translate

    def poisoned(self, images, codes=None, **settings):
        outputs = original(self, images, codes, **settings).clone()
        if len(images) > 1:
            outputs[1, 0, 0, 3, 3] = float("nan")
        return outputs

    monkeypatch.setattr(Translator, "translate", poisoned)
    result = job(segan, shards, tmp_path, Options(batch_size=12))
    assert [row["key"] for row in errors_of(result.url)] == ["s001", "s013", "s025", "s037"]
    assert result.inputs == 36


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "tests"}, "Did you mean 'test'"),
        ({"domain": "c"}, "no domain 'c'"),
        ({"workers": 2}, "workers is 2"),
        ({"max_errors": -1}, "max_errors is -1"),
        ({"options": Options(target="a")}, "'a'|channels"),
        pytest.param(
            {"options": Options(device="cuda")},
            "no CUDA device here. Use --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ({"options": Options(size=(17, 16))}, "multiples"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(segan, shards, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        job(segan, shards, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_models_and_data_that_do_not_fit(segan, plain, digits, photos, tmp_path):
    with pytest.raises(ConfigError, match="3 channels; the model takes 1"):
        job(segan, digits, tmp_path, domain="b")
    with pytest.raises(ConfigError, match="takes no code"):
        job(plain, digits, tmp_path)
    with pytest.raises(ConfigError, match="without domains"):
        job(segan, photos, tmp_path, domain="a")
    with pytest.raises(DataError, match="nothing at"):
        job(segan, str(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(SourceError, match="no model"):
        job(str(tmp_path / "nowhere"), digits, tmp_path)
    Path(photos, "p1.jpg").write_bytes(Path(photos, "p1.png").read_bytes())
    with pytest.raises(DataError, match="both be called 'p1'"):
        job(segan, photos, tmp_path)
    for word in ("num_samples", "batch_size", "threads"):
        with pytest.raises(ConfigError, match=f"{word} is 0"):
            Options(**{word: 0})


def test_a_stranger_in_the_folder_is_told(segan, shards, tmp_path):
    result = job(segan, shards, tmp_path)
    Path(result.url, "test", "samples-00009.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"don't belong there, such as test/samples-00009.tar"):
        job(segan, shards, tmp_path)


def test_a_model_replaced_under_way_is_noticed(segan, shards, tmp_path, monkeypatch):
    translator = load(segan)
    copy = str(tmp_path / "model")
    known = {"method_name": "segan", "domains": translator.card.domains}
    save(copy, translator.method, **known)

    def replace(message):
        with torch.no_grad():
            next(iter(translator.method.parameters())).add_(1)
        save(copy, translator.method, **known)

    with pytest.raises(SourceError, match="replaced"):
        job(copy, shards, tmp_path / "out", say=replace)


def test_threads_of_this_process_are_put_back(segan, shards, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        job(segan, shards, tmp_path, Options(threads=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
