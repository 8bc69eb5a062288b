"""Generators by protocols: samples against real images, all or of one label, in and after training; sources ranked."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from i2idist.data.manifest import load_manifest
from i2idist.data.pack import Sample
from i2idist.errors import ConfigError
from i2idist.evaluate import choose, evaluate
from i2idist.evaluate.compare import compare
from i2idist.evaluate.rank import rank_sources
from i2idist.evaluate.training import Measurer, evaluation_in_training
from i2idist.method import Method
from i2idist.methods import WGANGP
from i2idist.metrics import networks
from i2idist.metrics.frechet import frechet_distance
from i2idist.metrics.moments import Moments
from i2idist.model import load, save
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from i2idist.translate import Options
from tests.evaluate.toys import packed


@dataclasses.dataclass(frozen=True)
class Config:
    patterns: tuple[int, ...] = (0,)
    conditional: bool = False


def stripes(pattern):
    """(16, 16) in [-1, 1]: upright, level, or crossed."""
    rows, columns = (torch.arange(16) // 2 % 2 * 2.0 - 1).expand(16, 16), (torch.arange(16) // 2 % 2 * 2.0 - 1)[:, None]
    return (rows, columns.expand(16, 16), rows * columns)[pattern]


class Striped(Method):
    """Stripes, those of their label where there are labels, as bright as a code says."""

    Config = Config
    paper = "none"
    generates = True
    code_dim = 2
    targets = ()

    def __init__(self, config, domains):
        super().__init__()
        self.config = config
        self.network = nn.Linear(1, 1)
        if config.conditional:
            self.targets = domains.labels

    def translator_networks(self):
        return ("network",)

    def sample(self, code, label=None):
        kinds = torch.stack([stripes(pattern) for pattern in self.config.patterns])
        x = kinds[torch.zeros(len(code), dtype=torch.long) if label is None else label]
        return (x * 0.6 + code[:, :1, None] * 0.1)[:, None].expand(-1, 3, -1, -1).clamp(-1, 1)


def picture(n):
    """(16, 16, 3) uint8, of stripes that alternate."""
    grain = np.random.default_rng(n).normal(0, 0.1)
    tone = ((stripes(n % 2) * 0.6 + grain).clamp(-1, 1) + 1) * 127.5
    return tone.round().byte().numpy()[:, :, None].repeat(3, axis=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Upright and level stripes: the URL of a dataset."""
    samples = [Sample(f"s{n}", "train" if n < 96 else "test", {"image": picture(n)}, n % 2) for n in range(104)]
    return packed(tmp_path_factory.mktemp("data") / "tones", samples, "labelled", labels=("upright", "level"))


def saved(folder, data, **config):
    domains = load_manifest(data).domains_for(None)
    save(
        str(folder),
        Striped(Config(**config), domains),
        method_name="tests.evaluate.test_generators:Striped",
        domains=domains,
    )
    return str(folder)


@pytest.fixture(scope="module")
def tones(tmp_path_factory, data):
    """Knows both labels."""
    return saved(tmp_path_factory.mktemp("models") / "tones", data, patterns=(0, 1), conditional=True)


def run(model, data, *names, inputs=40, **options):
    found = evaluate(model, data, [choose(name, inputs=inputs) for name in names], Options(**options), launcher="local")
    return [record.estimate for record in found.records], found


def test_a_distance_is_that_of_the_samples_from_every_real_image(tones, data):
    (frechet, variance), found = run(tones, data, "frechet", "mean-variance")
    assert dict(frechet.counts) == {"inputs": 40, "outputs": 40, "reals": 104}
    network = networks.network(networks.DEFAULT)
    with torch.no_grad():
        made = load(tones).sample(40)
        real = torch.stack([torch.from_numpy(picture(n)).permute(2, 0, 1) / 127.5 - 1 for n in range(104)])
        want = frechet_distance(Moments.of(network.features(made)), Moments.of(network.features(real)))
        bound = frechet_distance(Moments.of(network.features(real[:96])), Moments.of(network.features(real)))
    assert frechet.value == pytest.approx(want, rel=1e-4)
    assert frechet.details["lower-bound"] == pytest.approx(bound, rel=1e-3, abs=1e-9)
    assert variance.value == pytest.approx(float(made.var(0, unbiased=False).mean()), rel=0.05)
    assert found.records[0].name.startswith("frechet/stlpips-alex/tones-all/")


def test_other_protocols_beside_it_change_no_value(tones, data):
    (alone,), one = run(tones, data, "frechet", inputs=12)
    protocols = [choose("frechet", inputs=12), choose("mean-variance", inputs=70)]
    two = evaluate(tones, data, protocols, launcher="local")
    beside = two.records[0].estimate
    assert (alone.value, one.records[0].name) == (beside.value, two.records[0].name)


def test_a_classifier_sees_the_labels_of_samples(tones, data, tmp_path):
    """They are half and half: one that makes all of them of one label is right half the time."""
    (right, wrong), _ = run(tones, data, "accuracy", "classifier-error")
    assert right.value > 0.8 and wrong.value == pytest.approx(1 - right.value)
    half = saved(tmp_path / "half", data, patterns=(0, 0), conditional=True)
    assert run(half, data, "accuracy")[0][0].value < right.value - 0.2


def test_a_target_is_one_label_of_samples_and_real_images(tones, data, tmp_path):
    (upright,), found = run(tones, data, "frechet", target="upright")
    assert upright.counts["reals"] == 52 and found.records[0].conditions["target"] == "upright"
    plain = saved(tmp_path / "upright", data, patterns=(0,))
    (near, right), _ = run(plain, data, "frechet", "accuracy", target="upright")
    (far, wrong), _ = run(plain, data, "frechet", "accuracy", target="level")
    assert right.value > wrong.value + 0.6 and near.value < far.value / 2


def test_what_a_generator_has_no_value_of_is_refused(tones, data, tmp_path):
    with pytest.raises(ConfigError, match="diversity-segan looks at inputs, and a generator has none"):
        run(tones, data, "diversity-segan")
    with pytest.raises(ConfigError, match="no label 'upright-'.*'upright'"):
        run(tones, data, "frechet", target="upright-")
    with pytest.raises(ConfigError, match="what samples should be of: name a label of the data by --target"):
        run(saved(tmp_path / "plain", data), data, "accuracy")
    with pytest.raises(ConfigError, match="leave --reference out"):
        evaluate(tones, data, [choose("frechet")], reference=data, launcher="local")


def test_sources_are_ranked_by_their_distance(data, tmp_path):
    near, far = (saved(tmp_path / name, data, patterns=(kind,)) for name, kind in (("near", 0), ("far", 2)))
    found = rank_sources(data, [far, near], choose("frechet", inputs=20), Options(target="upright"), launcher="local")
    assert [one.uri for one in found] == [near, far]
    assert found[0].as_json()["value"] < found[1].as_json()["value"] / 2
    with pytest.raises(ConfigError, match="mean-variance is no distance"):
        rank_sources(data, [near], choose("mean-variance"), launcher="local")


def real(*places):
    """(N, 3, 16, 16) in [-1, 1]."""
    return torch.stack([torch.from_numpy(picture(n)).permute(2, 0, 1) / 127.5 - 1 for n in places])


@pytest.fixture(scope="module")
def upright(tmp_path_factory):
    """Upright stripes, without labels: the URL of a dataset."""
    samples = [Sample(f"u{n}", "train", {"image": picture(2 * n + 1000)}, None) for n in range(40)]
    return packed(tmp_path_factory.mktemp("data") / "upright", samples, "images")


def test_a_dataset_may_stand_where_a_generator_does(data, upright):
    (frechet, kmmd), found = run(upright, data, "frechet", "kmmd", inputs=None)
    network = networks.network(networks.DEFAULT)
    with torch.no_grad():
        moments = [Moments.of(network.features(real(*of))) for of in (range(1000, 1080, 2), range(104))]
    assert frechet.value == pytest.approx(frechet_distance(*moments), rel=1e-4)
    assert dict(frechet.counts) == {"inputs": 40, "outputs": 40, "reals": 104} == dict(kmmd.counts)
    record = found.records[0]
    assert record.name.startswith("frechet/stlpips-alex/tones-all/") and record.conditions["samples_of"] == "images"
    assert record.model["weights_sha256"] == load_manifest(upright).digest
    (few,), _ = run(upright, data, "kmmd", inputs=30, target="upright", size=(8, 8))
    assert dict(few.counts) == {"inputs": 30, "outputs": 30, "reals": 52}


def test_what_real_images_have_no_value_of_is_refused(data, upright):
    for name in ("accuracy", "diversity-segan"):
        with pytest.raises(ConfigError, match=f"{name} looks at more than two sets of images"):
            run(upright, data, name)
    with pytest.raises(ConfigError, match="no label 'downright'"):
        run(upright, data, "frechet", target="downright")
    with pytest.raises(ConfigError, match="compare images of one size"):
        run(upright, data, "frechet", size="stored")
    with pytest.raises(ConfigError, match="leave --reference"):
        evaluate(upright, data, [choose("frechet")], reference=data, launcher="local")


def test_datasets_are_ranked_as_sources(data, upright, tmp_path):
    other = [Sample(f"c{n}", "train", {"image": 255 - picture(2 * n)}, None) for n in range(40)]
    far = packed(tmp_path / "far", other, "images")
    made = saved(tmp_path / "crossed", data, patterns=(2,))
    found = rank_sources(
        data, [made, far, upright], choose("frechet", inputs=20), Options(target="upright"), launcher="local"
    )
    assert found[0].uri == upright and {one.uri for one in found[1:]} == {far, made}


def test_generators_are_compared_in_a_picture_without_inputs(tones, data, tmp_path):
    other = saved(tmp_path / "other", data, patterns=(2,))
    found = compare([tones, other], data, [choose("frechet", inputs=20)], launcher="local", grid=(2, 2))
    (records,) = found.rows.values()
    assert records[0].estimate.value < records[1].estimate.value
    assert found.picture.size[0] < 4 * (80 + 2) + 30


def test_training_measures_what_the_saved_model_gives(data, tmp_path):
    domains = load_manifest(data).domains_for(None)
    torch.manual_seed(0)
    method = WGANGP(WGANGP.tiny()["plain"], domains)
    training = Training(
        total_images=8, batch_size=4, validate_every_images=4, validation_images=12, validate_protocols=("frechet",)
    )
    trainer = Trainer(method, training, seed=0, comm=Comm.alone())
    device = torch.device("cpu")
    evaluation = evaluation_in_training(training, "wgan_gp", method, domains, data, device, str(tmp_path))
    measurer = Measurer(evaluation, method, Comm.alone())
    ((name, value),) = measurer(trainer).items()
    measurer.close()
    save(str(tmp_path / "model"), method, method_name="wgan_gp", domains=domains)
    (after,), found = run(str(tmp_path / "model"), data, "frechet", inputs=12)
    assert (name, value) == (f"eval/{found.records[0].name}", after.value)
