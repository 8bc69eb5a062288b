from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from i2idist.data.generated import resolve
from i2idist.data.manifest import load_manifest
from i2idist.data.pack import Sample, pack
from i2idist.data.reader import DataSettings
from i2idist.errors import ConfigError, DataError, ManifestError
from i2idist.methods import SEGAN
from i2idist.model import Translator, load, save
from i2idist.translate import Translated, open_labelled, pack_translations, to_pixels, translate_split


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSettings:
    cache = tmp_path_factory.mktemp("data")
    return DataSettings(url=resolve("generated:digits?size=16&train=8&val=0&test=70", str(cache)))


@pytest.fixture(scope="module")
def translator(data: DataSettings, tmp_path_factory: pytest.TempPathFactory) -> Translator:
    domains = load_manifest(data.url).domains_for(None)
    url = str(tmp_path_factory.mktemp("model"))
    save(url, SEGAN(SEGAN.tiny()["unpaired_jsd"], domains), method_name="segan", domains=domains)
    return load(url)


def test_every_image_of_the_split_is_translated_once_in_order(data: DataSettings, translator: Translator) -> None:
    parts = list(translate_split(translator, data, split="test", num_samples=2, seed=1))
    inputs = torch.cat([part.inputs for part in parts])
    expected = torch.cat([batch.x for batch in open_labelled(data, "a", "test").epoch()])  # type: ignore[attr-defined]
    assert len(parts) == 2
    assert torch.equal(inputs, expected)
    keys = [key for part in parts for key in part.keys]
    assert len(set(keys)) == 70
    whole = translator.translate(inputs, num_samples=2, seed=1)
    assert torch.allclose(torch.cat([part.outputs for part in parts]), whole, atol=1e-6)


def test_translations_are_a_dataset_of_pairs(data: DataSettings, translator: Translator, tmp_path: Path) -> None:
    part = next(translate_split(translator, data, split="test", num_samples=2, seed=1))
    dest, labels = str(tmp_path / "out"), tuple("0123456789")
    told: list[int] = []

    def packed(seed: int) -> torch.Tensor:
        parts = translate_split(translator, data, split="test", num_samples=2, seed=seed)
        manifest = pack_translations(parts, dest, name="t", split="test", labels=labels, progress=told.append)
        assert manifest.pool("test", "b").count == 140
        reader = open_labelled(DataSettings(url=dest), "b", "test")
        batch = next(iter(reader.epoch()))
        assert reader.keys(batch)[:3] == [f"{part.keys[0]}-0", f"{part.keys[0]}-1", f"{part.keys[1]}-0"]
        assert batch.y[:4].tolist() == part.labels[:2].repeat_interleave(2).tolist()  # type: ignore[attr-defined]
        reader.close()
        return batch.x  # type: ignore[attr-defined,no-any-return]

    first = packed(seed=1)
    assert told[-1] == 140
    assert (first[:2] - part.outputs[0]).abs().max() <= 1 / 255 + 1e-6
    assert not torch.equal(packed(seed=2), first)


def test_unlabelled_data_is_refused(translator: Translator, tmp_path: Path) -> None:
    def samples() -> Iterator[Sample]:
        yield Sample("one", "test", {"a": np.zeros((16, 16), np.uint8)})

    pack(samples(), str(tmp_path), name="bare", role="images")
    with pytest.raises(ConfigError, match="no labels"):
        next(translate_split(translator, DataSettings(url=str(tmp_path)), split="test", num_samples=1, seed=0))


def test_nothing_but_a_dataset_is_ever_replaced(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    empty: Iterator[Translated] = iter(())
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        pack_translations(empty, str(tmp_path), name="t", split="test", labels=())
    assert (tmp_path / "manifest.json").exists()


def test_a_dataset_that_isnt_translations_is_never_replaced(tmp_path: Path) -> None:
    """Not even one of the same name, role and domains, nor one packed where translations had been."""

    def samples(level: int) -> Iterator[Sample]:
        image = np.full((4, 4), level, np.uint8)
        yield Sample("one-0", "test", {"a": image, "b": image}, 0)

    def translated() -> Iterator[Translated]:
        images = torch.zeros(1, 1, 4, 4)
        yield Translated(["one"], images, torch.zeros(1, dtype=torch.int64), images[:, None])

    dest = str(tmp_path / "d")
    made = pack_translations(translated(), dest, name="t", split="test", labels=("0",))
    (tmp_path / "d" / "manifest.json").unlink()
    mine = pack(samples(7), dest, name="t", role="paired", domains=("a", "b"), labels=("0",))
    assert mine.digest != made.digest
    with pytest.raises(DataError, match="isn't known to be translations is at .*/d"):
        pack_translations(translated(), dest, name="t", split="test", labels=("0",))
    assert load_manifest(dest) == mine
    (tmp_path / "d" / "translations.txt").unlink()
    with pytest.raises(DataError, match="isn't known to be translations"):
        pack_translations(translated(), dest, name="t", split="test", labels=("0",))


def test_pixels_round_to_the_nearest_level() -> None:
    assert to_pixels(torch.tensor([[[-1.0, 0.0, 1.0]]])).tolist() == [[0, 128, 255]]
    assert to_pixels(torch.zeros(3, 2, 5)).shape == (2, 5, 3)
