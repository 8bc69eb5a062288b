from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from i2idist import model, storage
from i2idist.errors import ConfigError, SourceError
from i2idist.method import Domain, Domains
from i2idist.methods import SEGAN, Pix2Pix
from i2idist.model import Translator, load, save, weights_of

DOMAINS = Domains((Domain("a", 1, 16, 16), Domain("b", 3, 16, 16)))


def segan(seed: int = 0) -> SEGAN:
    torch.manual_seed(seed)
    method = SEGAN(SEGAN.tiny()["unpaired_jsd"], DOMAINS)
    for parameter in method.parameters():  # larger than the initial ones, so that the code shows in the output
        parameter.data.mul_(8)
    return method


def saved(url: str, seed: int = 0) -> Translator:
    save(url, segan(seed), method_name="segan", domains=DOMAINS, lineage={"run": "r"})
    return load(url)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("place", ["tmp", "memory"])
def test_a_saved_model_translates_as_the_method_did(tmp_path: Path, images: Tensor, place: str) -> None:
    translator = saved(str(tmp_path) if place == "tmp" else f"memory://{tmp_path.name}/model")
    codes = torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(1))
    method = segan().eval()
    with torch.no_grad():
        expected = method.translate(images, codes[:, 0])
    assert torch.equal(translator.translate(images, codes)[:, 0], expected)
    assert translator.card.lineage == {"run": "r"}
    assert translator.card.domains == DOMAINS
    assert translator.method.config == method.config


def test_only_the_translating_networks_are_saved(tmp_path: Path) -> None:
    translator = saved(str(tmp_path))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    weights = safetensors.torch.load_file(tmp_path / translator.card.weights)
    assert weights.keys() == {f"G.{name}" for name in segan().G.state_dict()}


def test_translations_do_not_depend_on_batches_or_on_how_many_codes(tmp_path: Path, images: Tensor) -> None:
    translator = saved(str(tmp_path))
    whole = translator.translate(images, num_samples=3, seed=4)
    assert whole.shape == (5, 3, 3, 16, 16)
    assert torch.allclose(whole, translator.translate(images, num_samples=3, seed=4, batch_size=2), atol=1e-6)
    assert torch.allclose(whole[:, :2], translator.translate(images, num_samples=2, seed=4), atol=1e-6)
    part = translator.translate(images[3:], num_samples=3, seed=4, first_position=3)
    assert torch.allclose(whole[3:], part, atol=1e-6)


def test_codes_differ_by_sample_position_and_seed(tmp_path: Path) -> None:
    translator = saved(str(tmp_path))
    codes = translator.draw_codes(torch.arange(400), 3, 0)
    others = translator.draw_codes(torch.arange(400), 3, 1)
    drawn = torch.cat([codes, others]).reshape(-1, 3)
    assert len(drawn.unique(dim=0)) == len(drawn)
    assert drawn.mean().abs() < 0.05
    assert (drawn.std() - 1).abs() < 0.05


def test_codes_shared_by_all_images_equal_codes_of_each(tmp_path: Path, images: Tensor) -> None:
    translator = saved(str(tmp_path))
    codes = torch.randn(2, 3)
    shared = translator.translate(images, codes)
    assert torch.equal(shared, translator.translate(images, codes.expand(5, 2, 3)))
    assert not torch.allclose(shared[:, 0], shared[:, 1], atol=1e-3)


def test_what_does_not_fit_is_refused(tmp_path: Path, images: Tensor) -> None:
    translator = saved(str(tmp_path))
    with pytest.raises(ConfigError, match=r"\(N, 1, H, W\)"):
        translator.translate(images.expand(-1, 3, -1, -1))
    with pytest.raises(ConfigError, match=r"not \(2, 4\)"):
        translator.translate(images, torch.zeros(2, 4))
    with pytest.raises(ConfigError, match=r"not \(4, 2, 3\)"):
        translator.translate(images, torch.zeros(4, 2, 3))
    with pytest.raises(ConfigError, match="num_samples is 0"):
        translator.translate(images, num_samples=0)
    with pytest.raises(ConfigError, match="'c'"):
        translator.translate(images, target="c")


def test_a_method_without_codes_gives_one_output(tmp_path: Path, images: Tensor) -> None:
    method = next(m for m in (Pix2Pix(config, DOMAINS) for config in Pix2Pix.tiny().values()) if not m.code_dim)
    save(str(tmp_path), method, method_name="pix2pix", domains=DOMAINS)
    translator = load(str(tmp_path))
    assert translator.translate(images).shape == (5, 1, 3, 16, 16)
    with pytest.raises(ConfigError, match="takes no code"):
        translator.translate(images, num_samples=2)


def test_averaged_parameters_are_saved_where_training_kept_them() -> None:
    method, average = segan(0), segan(1)
    checkpoint = {f"method.{k}": t for k, t in method.state_dict().items()}
    assert torch.equal(weights_of(method, checkpoint)["G.down.0.weight"], method.G.down[0].weight)
    checkpoint |= {f"ema.generator.{k}": t for k, t in average.state_dict().items() if k.startswith("G.")}
    assert torch.equal(weights_of(method, checkpoint)["G.down.0.weight"], average.G.down[0].weight)
    with pytest.raises(SourceError, match="method.G"):
        weights_of(method, {})


def test_saving_again_replaces_the_model(tmp_path: Path, images: Tensor) -> None:
    codes = torch.ones(1, 3)
    before = saved(str(tmp_path), seed=0).translate(images, codes)
    after = saved(str(tmp_path), seed=1).translate(images, codes)
    assert not torch.allclose(before, after, atol=1e-3)
    assert len(list(tmp_path.iterdir())) == 2


def test_loading_does_not_disturb_the_global_generator(tmp_path: Path) -> None:
    saved(str(tmp_path))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load(str(tmp_path))
    assert torch.equal(torch.rand(3), expected)


def test_damage_is_told_apart(tmp_path: Path) -> None:
    url = str(tmp_path)
    with pytest.raises(SourceError, match="no model"):
        load(url)
    card = saved(url).card
    description, weights = tmp_path / "model.json", tmp_path / card.weights
    text, data = description.read_text(), weights.read_bytes()
    for old, new, message in (
        ('"format_version": 1', '"format_version": 9', "format version 9"),
        ('"code_dim": 3', '"code_dim": 4', "doesn't fit|was saved with|don't fit"),
        ('"samples_per_input"', '"samples_per_inputs"', "Did you mean 'samples_per_input'"),
        ('"width": 4', '"width": 8', "of another shape: G"),
        ("{", "[", "damaged"),
    ):
        description.write_text(text.replace(old, new, 1))
        with pytest.raises((SourceError, ConfigError), match=message):
            load(url)
    description.write_text(text)
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SourceError, match="SHA-256"):
        load(url)
    weights.unlink()
    with pytest.raises(SourceError, match="missing"):
        load(url)


def test_a_save_cut_short_leaves_the_model_that_was_there(
    tmp_path: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved(str(tmp_path), seed=0).translate(images, torch.ones(1, 3))
    write = storage.write_bytes

    def fail_at_the_card(url: str, data: bytes) -> None:
        if url.endswith(model.FILE_NAME):
            raise KeyboardInterrupt
        write(url, data)

    monkeypatch.setattr(storage, "write_bytes", fail_at_the_card)
    with pytest.raises(KeyboardInterrupt):
        save(str(tmp_path), segan(1), method_name="segan", domains=DOMAINS)
    assert torch.equal(load(str(tmp_path)).translate(images, torch.ones(1, 3)), before)
