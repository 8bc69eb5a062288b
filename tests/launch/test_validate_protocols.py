"""Protocols during training: the values that an evaluation of the saved model gives, and a criterion."""

import pytest

from i2idist import launch
from i2idist.data.generated import resolve
from i2idist.errors import ConfigError
from i2idist.evaluate import evaluate
from i2idist.evaluate.training import choices_of
from i2idist.train.settings import Training

PROTOCOLS = ["pixel-accuracy", "edge-iou", "frechet", "accuracy"]


def recipe(tiny, **train):
    settings = {"validate_every_images": 24, "validation_images": 5, "precision": "float32", **train}
    return tiny(train={"validate_protocols": PROTOCOLS, "best_metric": "eval/edge-iou", "best_mode": "max", **settings})


def test_validation_gives_what_an_evaluation_of_the_saved_model_gives(tiny, root, metrics, cache, tmp_path):
    result = launch.train(recipe(tiny), run="first", root=root)
    rows = [event for event in metrics(root, "first") if event["event"] == "validation"]
    assert [row["images"] for row in rows] == [24, 48]
    best = max(rows, key=lambda row: next(v for k, v in row.items() if k.startswith("eval/edge-iou/")))
    assert result.best == f"images-{best['images']:012d}"
    launch.export("first", str(tmp_path / "model"), root=root, which="newest")
    data = resolve("generated:edges?size=16&train=12&val=6&test=0", str(cache / "generated"))
    choices = choices_of(
        Training(
            total_images=1,
            batch_size=1,
            validate_every_images=1,
            validation_images=5,
            validate_protocols=tuple(PROTOCOLS),
        )
    )
    (classifier,) = (tmp_path / "runs" / "classifiers").iterdir()
    found = evaluate(str(tmp_path / "model"), data, choices, split="val", classifier=str(classifier), launcher="local")
    assert {f"eval/{record.name}": record.estimate.value for record in found.records} == {
        key: value for key, value in rows[-1].items() if key.startswith("eval/")
    }


def test_protocols_change_nothing_of_training(tiny, root, steps):
    launch.train(recipe(tiny), run="with", root=root)
    with_protocols = steps(root, "with")
    launch.train(recipe(tiny, validate_protocols=[], best_metric="generator/l1"), run="without", root=root)
    assert with_protocols == steps(root, "without")


def test_what_cannot_be_measured_is_refused_before_training(tiny, root):
    with pytest.raises(ConfigError, match="Did you mean 'edge-iou'"):
        launch.train(recipe(tiny, validate_protocols=["edge-io"]), run="first", root=root)
    with pytest.raises(ConfigError, match="best_mode=max"):
        launch.train(recipe(tiny, best_mode="min"), run="first", root=root)
    with pytest.raises(ConfigError, match="validate_every_images"):
        launch.train(recipe(tiny, validate_every_images=None, best_metric=None), run="second", root=root)


def test_a_criterion_that_is_none_names_what_there_is(tiny, root):
    with pytest.raises(ConfigError, match="is none of .*eval/edge-iou/"):
        launch.train(recipe(tiny, best_metric="eval/edge-io"), run="first", root=root)


@pytest.mark.slow
def test_two_workers_measure_what_one_does(tiny, root, metrics):
    one = recipe(tiny, precision="float64")
    launch.train(one, run="one", root=root)
    launch.train(one, overrides={"resources.launcher": "ray", "resources.num_workers": 2}, run="two", root=root)

    def values(name):
        return [
            {key: value for key, value in event.items() if key.startswith("eval/")}
            for event in metrics(root, name)
            if event["event"] == "validation"
        ]

    for ours, theirs in zip(values("two"), values("one"), strict=True):
        assert ours.keys() == theirs.keys()
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)
