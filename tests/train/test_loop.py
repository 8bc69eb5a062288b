"""The loop: resuming, validation, best, stopping."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from i2idist.data.batches import Paired
from i2idist.errors import ConfigError
from i2idist.method import Domain, Domains
from i2idist.train.checkpoint import Checkpoints
from i2idist.train.comm import Comm
from i2idist.train.loop import Leaving, Outcome, Watcher, fit, validate
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.train import toy

DOMAINS = Domains((Domain("a", 1, 2, 2), Domain("b", 1, 2, 2)))


def _batches(start: int, size: int = 4) -> Iterator[Paired]:
    while True:
        generator = torch.Generator().manual_seed(start)
        a, b = torch.randn(2, size, 1, 2, 2, generator=generator)
        yield Paired(positions=torch.arange(size) + size * start, a=a, b=b)
        start += 1


def _validation() -> Iterator[Paired]:
    first, second = next(_batches(1000)), next(_batches(2000))
    return iter((first, second[:2].map(lambda t: t)))


def _fit(
    folder: Path, *, stop_at: int | None = None, events: list | None = None, watcher=None, leaving=None, **training
) -> Outcome:
    settings = {
        "total_images": 80,
        "batch_size": 4,
        "log_every_images": 8,
        "checkpoint_every_images": 20,
        "ema_half_life_images": 8,
        **training,
    }
    events = [] if events is None else events
    method = toy.Toy(toy.Config(), DOMAINS)
    return fit(
        method,
        training=Training(**settings),
        seed=1,
        comm=Comm.alone(),
        device="cpu",
        batches=_batches,
        checkpoints=Checkpoints(str(folder)),
        validation=_validation,
        on_event=events.append,
        should_stop=lambda: stop_at is not None and events[-1:] and events[-1]["images"] >= stop_at,
        watcher=watcher,
        leaving=leaving,
    )


def test_stopped_and_resumed_equals_left_alone(tmp_path):
    whole_events: list = []
    whole = _fit(tmp_path / "whole", events=whole_events)
    events: list = []
    first = _fit(tmp_path / "parts", stop_at=32, events=events)
    assert first.stopped == "stop" and first.images == 32
    second = _fit(tmp_path / "parts", events=events)
    assert second.stopped == "done" and second.images == 80
    assert second.params_sha256 == whole.params_sha256
    logged = [(e["images"], e["maps/fit"]) for e in events if e["event"] == "metrics"]
    assert logged == [(e["images"], e["maps/fit"]) for e in whole_events if e["event"] == "metrics"]
    assert [i for i, _ in logged] == list(range(8, 81, 8))


def test_a_finished_run_is_left_as_it_is(tmp_path):
    first = _fit(tmp_path)
    again = _fit(tmp_path)
    assert again.params_sha256 == first.params_sha256 and again.steps == first.steps
    assert again.checkpoint == first.checkpoint


class Notes(Watcher):
    """Notes when it looked, and keeps that in checkpoints."""

    def __init__(self):
        self.looks, self.restored = [], None

    def state(self):
        return {"notes": list(self.looks)}

    def restore(self, rest, images):
        self.restored = (rest["notes"], images)

    def look(self, trainer, final):
        self.looks.append([trainer.images, final])


def test_a_watcher_looks_before_each_checkpoint_that_holds_its_state(tmp_path):
    first, second = Notes(), Notes()
    _fit(tmp_path, stop_at=32, watcher=first, validate_every_images=20)
    assert first.looks == [[0, False], [20, False], [32, False], [32, True]]
    assert first.restored is None
    _fit(tmp_path, watcher=second, validate_every_images=20, preview_every_images=24, checkpoint_every_images=None)
    assert second.restored == (first.looks, 32)
    assert second.looks == [[40, False], [48, False], [60, False], [72, False], [80, False], [80, True]]


class LeaveAt(Leaving):
    """Asks every fourth step; leaves at a number of images."""

    def __init__(self, images):
        self.images, self.polled, self.asked = images, 0, []

    def due(self):
        self.polled += 1
        return self.polled % 4 == 0

    def decide(self):
        self.asked.append(4 * self.polled)
        return 4 * self.polled >= self.images


def test_a_training_leaves_with_a_checkpoint_and_goes_on_from_there(tmp_path):
    whole = _fit(tmp_path / "whole")
    events, watcher = [], Notes()
    leaving = LeaveAt(48)
    first = _fit(tmp_path / "parts", events=events, leaving=leaving, watcher=watcher)
    assert (first.stopped, first.images, first.checkpoint) == ("left", 48, "images-000000000048")
    assert leaving.asked == [16, 32, 48]
    assert events[-1]["event"] == "left"
    assert not any(final for _, final in watcher.looks), "it isn't the end"
    second = _fit(tmp_path / "parts", events=events)
    assert (second.stopped, second.params_sha256) == ("done", whole.params_sha256)
    assert [e["images"] for e in events if e["event"] == "resumed"] == [48]


def test_best_is_kept_and_patience_ends(tmp_path):
    events: list = []
    outcome = _fit(
        tmp_path,
        events=events,
        total_images=4000,
        checkpoint_every_images=400,
        validate_every_images=40,
        best_metric="maps/fit",
        patience=3,
    )
    values = [(e["maps/fit"], e["images"]) for e in events if e["event"] == "validation"]
    assert outcome.stopped == "early" and outcome.images < 4000
    assert outcome.best == f"images-{min(values)[1]:012d}"
    assert len(values) == [i for _, i in values].index(min(values)[1]) + 1 + 3
    assert outcome.best in Checkpoints(str(tmp_path)).names()


def test_larger_may_be_better(tmp_path):
    events: list = []
    outcome = _fit(tmp_path, events=events, validate_every_images=20, best_metric="maps/fit", best_mode="max")
    values = [(e["maps/fit"], -e["images"]) for e in events if e["event"] == "validation"]
    assert outcome.best == f"images-{-max(values)[1]:012d}"


def test_an_unknown_criterion_names_what_there_is(tmp_path):
    with pytest.raises(ConfigError, match="maps/nothing.*maps/fit"):
        _fit(tmp_path, validate_every_images=20, best_metric="maps/nothing")


def _validate_everywhere(comm: Comm) -> dict[str, float]:
    method = toy.Toy(toy.Config(), DOMAINS)
    trainer = Trainer(method, Training(total_images=8, batch_size=4), seed=0, comm=comm)
    every = [next(_batches(i)) for i in range(5)]
    return validate(trainer, iter(every[comm.rank :: comm.world_size]), comm, seed=0)


def test_validation_is_the_mean_over_samples(tmp_path):
    events: list = []
    _fit(tmp_path, events=events, total_images=4, validate_every_images=4)
    (values,) = [e for e in events if e["event"] == "validation"]
    found = Checkpoints(str(tmp_path)).newest()
    assert found is not None
    w, c = (float(found[1].tensors[f"ema.maps.{n}.w"]) for n in ("first", "second"))
    errors = [
        float((w * a + c - b).square().mean()) for batch in _validation() for a, b in zip(batch.a, batch.b, strict=True)
    ]
    assert values["maps/fit"] == pytest.approx(sum(errors) / 6, rel=1e-5)


def test_validation_is_the_same_on_any_number_of_workers(pool):
    values = [pool.run(_validate_everywhere, world_size) for world_size in (1, 2, 3, 4)]
    assert values[0].keys() == {"critic/critic", "maps/fit", "maps/scalar", "maps/pull"}
    assert values == values[:1] * 4


class _Partial(toy.Toy):
    """Its validation speaks of the samples whose first pixel is positive, in some batches of none."""

    def validation_terms(self, step):
        x = step.batch.a.flatten(1)[:, 0]
        return {"some/value": x[x > 0]} if (x > 0).any() else {}


def test_a_validation_term_may_speak_of_some_samples(tmp_path):
    trainer = Trainer(
        _Partial(toy.Config(), DOMAINS), Training(total_images=8, batch_size=4), seed=0, comm=Comm.alone()
    )
    every = [next(_batches(i)) for i in range(5)]
    values = torch.cat([batch.a.flatten(1)[:, 0] for batch in every])
    assert 0 < (values > 0).sum() < len(values)
    found = validate(trainer, iter(every), Comm.alone(), seed=0)
    assert found == {"some/value": pytest.approx(float(values[values > 0].double().mean()), rel=1e-6)}
