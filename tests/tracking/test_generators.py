"""Generators from training to the registry and on: pictures, served samples, sources that say what they are."""

import json

import mlflow.pyfunc
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc.scoring_server import infer_and_parse_data

from i2idist import launch
from i2idist.conformance import Case
from i2idist.experiment import Experiment, from_dict, from_yaml
from i2idist.launch.run_folder import RunFolder
from i2idist.launch.sources import load_source, pin_sources
from i2idist.method import Described
from i2idist.methods import ACGAN, METHODS, WGANGP
from i2idist.methods.gan import built, fill
from i2idist.model import load, save
from i2idist.payload import MAX_OUTPUT_PIXELS, sample_images
from i2idist.tracking.evolution import Evolution, is_moment
from i2idist.tracking.packaging import write_mlflow_model
from i2idist.tracking.registry import promote, register
from i2idist.tracking.samples import CODES, Samples
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.test_payload import decoded

DATA = "generated:shapes?size=16&families=car&train=12&val=4&test=4"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("I2IDIST_RUNS", str(folder / "runs"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


def made(name="wgan_gp"):
    case = Case(name, "first", next(iter(METHODS[name].tiny().values())))
    return case.build(), case.domains


@pytest.fixture(scope="module")
def source(place):
    """A registered WGAN-GP, its champion."""
    method, domains = made()
    save(str(place / "gan"), method, method_name="wgan_gp", domains=domains)
    register(str(place / "gan"), "faces")
    promote("faces")
    return method


def test_a_served_generator_takes_params_alone(source, place, tmp_path):
    served = mlflow.pyfunc.load_model(str(write_mlflow_model(tmp_path, str(place / "gan"), Model())))
    for body in ({"inputs": []}, {"dataframe_records": [{}]}):
        given = infer_and_parse_data(json.loads(json.dumps(body)), served.metadata.get_input_schema())
        (answer,) = served.predict(given, params={"num_samples": 3, "seed": 5})
        assert answer["images"] == sample_images(load(str(place / "gan")), num_samples=3, seed=5)
    expected = ((load(str(place / "gan")).sample(3, seed=5) + 1) * 127.5).round().int()
    for text, image in zip(answer["images"], expected, strict=True):
        assert (decoded(text).permute(2, 0, 1).int() - image).abs().max() <= 1
    for params, reason in (
        ({"num_samples": 0}, "may ask for 1 to"),
        ({"num_samples": MAX_OUTPUT_PIXELS // 256 + 1}, "may ask for 1 to 65536"),
        ({"target": "cats"}, "no labels to choose from"),
    ):
        with pytest.raises(MlflowException, match=reason):
            served.predict(pd.DataFrame([{}]), params=params)


def transfer(root, **sources):
    return {
        "method": {"name": "transfergan", "latent_dim": 4, "blocks": 2, "width": 4, "critic_steps": 2},
        "data": {"url": DATA},
        "train": {"total_images": 16, "batch_size": 4, "checkpoint_every_images": 8},
        "resources": {"launcher": "local", "threads_per_worker": 1},
        "sources": sources,
    }


@pytest.mark.parametrize("uri", ["models:/faces@champion", "gan"])
def test_a_source_says_what_it_is_and_can_be_built_again(source, place, uri):
    named = uri if ":" in uri else str(place / uri)
    raw = transfer(place, generator=named)
    pinned = pin_sources(from_dict(raw, "recipe.yaml"), str(place / "runs"))
    assert from_yaml(pinned.as_yaml(), "x") == pinned, "it survives the run folder"
    found = from_yaml(pinned.as_yaml(), "x").sources["generator"]
    assert isinstance(found.model, Described) and found.model.method == "wgan_gp"
    again = built(found.model)
    fill(again.G, "G", load_source(found), "sources.generator")
    code = torch.randn(2, 4)
    assert torch.equal(again.sample(code), source.sample(code))


def test_a_run_begins_where_its_sources_ended_and_shows_how_it_evolved(source, place, tmp_path):
    recipe = tmp_path / "transfer.yaml"
    recipe.write_text(json.dumps(transfer(place, generator=str(place / "gan"), discriminator="models:/faces@champion")))
    launch.train(str(recipe), run="cars", overrides={"train.total_images": 8})
    result = launch.train(str(recipe), run="cars", overrides={"train.total_images": 24})
    assert result.images == 24
    experiment: Experiment = RunFolder(str(place / "runs"), "cars").experiment()
    assert experiment.sources["discriminator"].version == "models:/faces/1"
    launch.export("cars", str(place / "cars"))
    trained = load(str(place / "cars"))
    assert trained.card.domains.count == 12
    for name, tensor in trained.method.named_parameters():  # three and six steps of 1e-5, that of small targets
        assert (tensor - source.get_parameter(name)).abs().max() < 3e-4, name
    assert not torch.equal(trained.method.G.linear.weight, source.G.linear.weight)
    assert any("evolution" in path.name for path in place.rglob("*.png")), "MLflow has the strip"


def trainer_of(name):
    method, _ = made(name)
    return Trainer(method, Training(total_images=400, batch_size=4), seed=0, comm=Comm.alone())


def test_rows_are_labels_of_the_same_codes():
    trainer = trainer_of("acgan")
    samples = Samples(trainer, seed=0)
    assert samples.grid().size[0] == 2 * 12 + CODES * 80 + (CODES - 1) * 2
    assert samples.interpolation().size[0] < samples.grid().size[0]
    assert trainer.method.training and isinstance(trainer.method, ACGAN)


def test_a_strip_grows_at_powers_of_two_and_goes_on_after_a_restart():
    assert [steps for steps in range(40) if is_moment(steps)] == [0, 1, 2, 4, 8, 16, 32]
    trainer, strip = trainer_of("wgan_gp"), Evolution()
    widths = []
    for steps in (0, 1, 2, 3, 4):
        trainer.steps = steps
        widths.append(Samples(trainer, seed=0).evolution(strip).size[0])
    assert [b - a for a, b in zip(widths, widths[1:], strict=False)] == [82, 82, 0, 82]
    again = Evolution()
    again.restore(json.loads(json.dumps(strip.state())))
    steps, images = again.columns(4)
    assert steps == [0, 1, 2, 4] and images.shape == (4, 4, 3, 16, 16)
    assert torch.equal(images, strip.columns(4)[1]) and isinstance(trainer.method, WGANGP)
    now = trainer.method.eval().sample(Samples(trainer, seed=0)._codes[:4])
    assert (images[:, 3] - now).abs().max() < 1 / 127
