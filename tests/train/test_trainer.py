"""The trainer against gradients worked by hand."""

from collections.abc import Iterator

import pytest
import torch

from i2idist.conformance import cases_of
from i2idist.conformance.training import batches
from i2idist.data.batches import Paired
from i2idist.errors import NonFiniteError
from i2idist.method import Domain, Domains
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.train import toy

DOMAINS = Domains((Domain("a", 1, 1, 1), Domain("b", 1, 1, 1)))
A, B = torch.tensor([1.0, 2.0, -1.0, 0.5]), torch.tensor([0.0, 1.0, 1.0, 2.0])


def _stream(start: int = 0) -> Iterator[Paired]:
    while True:
        shape = (4, 1, 1, 1)
        yield Paired(positions=torch.arange(4) + 4 * start, a=A.view(shape), b=B.view(shape))
        start += 1


def _trainer(seen: list | None = None, accumulate: int = 1, total: int = 40, half_life: int | None = None, **config):
    gradients: list = []
    method = toy.Toy(toy.Config(**config), DOMAINS)
    training = Training(
        total_images=total, batch_size=4, precision="float64", accumulate=accumulate, ema_half_life_images=half_life
    )
    trainer = Trainer(
        method,
        training,
        seed=0,
        comm=Comm.alone(),
        observer=lambda n, g: gradients.append((n, {k: float(v) for k, v in g.items()})),
    )
    return trainer, gradients


def _by_hand(weight_fit: float = 1.0) -> dict[str, float]:
    error = 0.5 * A + 0.5 - B
    return {
        "first.w": weight_fit * float((2 * error * A).mean()),
        "second.w": weight_fit * float((2 * error).mean()) + 2 * 0.5 * 0.5 * 0.5,
    }


def test_two_backwards_with_different_networks_add_up_before_one_step():
    trainer, gradients = _trainer()
    trainer.step(_stream())
    assert gradients[0] == ("critic", {"critic.w": pytest.approx(float((2 * 0.5 * A.square()).mean()))})
    assert gradients[1][0] == "maps"
    assert gradients[1][1] == pytest.approx(_by_hand())
    assert _by_hand()["first.w"] > 0
    assert trainer.method.first.w.item() == pytest.approx(0.5 - 0.1, abs=1e-6)  # Adam's first step is lr x sign


def test_networks_that_no_backward_names_stay_as_they_are():
    """Adam's momentum would move them, were their gradient taken for zero."""
    trainer, gradients = _trainer(second_again=True)
    trainer.step(_stream())
    assert [(name, list(g)) for name, g in gradients[1:]] == [
        ("maps", ["first.w", "second.w"]),
        ("maps_2", ["second.w"]),
    ]
    without, _ = _trainer()
    without.step(_stream())
    assert trainer.method.first.w.item() == without.method.first.w.item()
    assert trainer.method.second.w.item() != without.method.second.w.item()


@pytest.mark.parametrize(("clip_norm", "shrinks"), [(0.5, True), (100.0, False)])
def test_a_gradient_longer_than_the_clip_is_scaled_to_it(clip_norm, shrinks):
    trainer, gradients = _trainer(clip_norm=clip_norm)
    trainer.step(_stream())
    whole = _by_hand()
    norm = (whole["first.w"] ** 2 + whole["second.w"] ** 2) ** 0.5
    assert clip_norm < norm if shrinks else clip_norm > norm
    scale = clip_norm / norm if shrinks else 1.0
    assert gradients[1][1] == pytest.approx({name: g * scale for name, g in whole.items()}, rel=1e-5)


def test_weights_scale_terms_and_terms_are_logged_unweighted():
    trainer, gradients = _trainer(lambda_fit=10.0)
    trainer.step(_stream())
    assert gradients[1][1] == pytest.approx(_by_hand(10.0))
    error = 0.5 * A + 0.5 - B
    assert trainer.logged_terms()["maps/fit"] == pytest.approx(float(error.square().mean()))


def test_a_scalar_term_is_global_already():
    trainer, gradients = _trainer(lambda_fit=0.0, lambda_scalar=1.0)
    trainer.step(_stream())
    error = 0.5 * A + 0.5 - B
    share = error.square().exp() / error.square().exp().sum()
    assert gradients[1][1]["first.w"] == pytest.approx(float((share * 2 * error * A).sum()))


def test_accumulation_equals_the_whole_batch_for_sums_over_samples():
    for accumulate in (2, 3, 4):
        trainer, gradients = _trainer(accumulate=accumulate)
        trainer.step(_stream())
        assert gradients[1][1] == pytest.approx(_by_hand())


def test_repeats_draw_new_batches_and_every_skips_steps():
    seen: list = []
    trainer, gradients = _trainer(critic_repeat=3, critic_every=2, seen=seen)
    trainer.method.config.seen.clear()
    stream = _stream()
    trainer.step(stream)
    trainer.step(stream)
    assert [p[0] for p in trainer.method.config.seen] == [0, 4, 8]
    assert [name for name, _ in gradients] == ["critic"] * 3 + ["maps"] * 2
    assert (trainer.images, trainer.batches, trainer.steps) == (16, 4, 2)


def test_terms_of_a_repeated_update_are_the_last_ones():
    """Adam's first steps are of its learning rate, 0.1: the critic's weight goes from 0.5 to 0.4 to 0.3."""
    trainer, _ = _trainer(critic_repeat=3)
    trainer.step(_stream())
    assert trainer.logged_terms()["critic/critic"] == pytest.approx(0.3**2 * float(A.square().mean()), rel=0.02)


def test_stages_freeze_networks_and_change_weights():
    trainer, gradients = _trainer(stages=True, total=8)
    stream = _stream()
    trainer.step(stream)
    assert "second.w" not in gradients[1][1] and trainer.method.second.w.item() == 0.5
    assert trainer.stage.name == "two"
    trainer.step(stream)
    error = trainer.method.first.w.item()
    assert "second.w" in gradients[3][1] and error != 0.5


def test_a_value_that_is_not_finite_stops_before_any_parameter_takes_it():
    trainer, _ = _trainer(blow_up_at=4)
    stream = _stream()
    trainer.step(stream)
    before = trainer.method.first.w.item()
    with pytest.raises(NonFiniteError, match=r"maps/fit.*at 8 images \(step 1\), on ranks 0"):
        trainer.step(stream)
    assert trainer.method.first.w.item() == before


def test_average_has_its_half_life():
    trainer, _ = _trainer(half_life=4)
    first = trainer.method.first.w.item()
    trainer.step(_stream())
    shadow = trainer.averaged()["maps"].shadow["first.w"]
    assert float(shadow) == pytest.approx((first + trainer.method.first.w.item()) / 2)
    with trainer.averaged()["maps"].applied():
        assert trainer.method.first.w.item() == float(shadow)
    assert trainer.method.first.w.item() != float(shadow)


def _accumulated(comm: Comm) -> dict[str, torch.Tensor]:
    case = cases_of("pix2pix")[0]
    method = case.build()
    training = Training(total_images=8, batch_size=4, precision="float64", accumulate=2)
    trainer = Trainer(method, training, seed=0, comm=comm)
    for _ in range(2):
        trainer.step(batches(case, method, comm, trainer.batches, 4))
    assert trainer.same_everywhere()
    return {name: tensor.clone() for name, tensor in trainer.state().tensors.items()}


def test_accumulation_keeps_workers_of_unequal_shares_in_step(pool):
    for world_size in (2, 3):
        assert all(bool(t.isfinite().all()) for t in pool.run(_accumulated, world_size).values())


@pytest.mark.parametrize(("precision", "channels_last"), [("bfloat16", False), ("float32", True), ("bfloat16", True)])
def test_other_arithmetic_trains_and_resumes_bit_for_bit(precision, channels_last):
    case = cases_of("segan")[0]
    training = Training(total_images=16, batch_size=4, precision=precision, channels_last=channels_last)

    def trained(stops: tuple[int, ...]) -> dict[str, torch.Tensor]:
        state = None
        for steps in stops:
            method = case.build()
            trainer = Trainer(method, training, seed=0, comm=Comm.alone())
            if state is not None:
                trainer.restore(state, "memory")
            for _ in range(steps):
                trainer.step(batches(case, method, Comm.alone(), trainer.batches, 4))
            state = trainer.state().clone()
        return dict(state.tensors)

    whole, parts = trained((4,)), trained((1, 2, 1))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    plain = cases_of("segan")[0].build().state_dict()
    assert any(not torch.equal(whole[f"method.{name}"], tensor) for name, tensor in plain.items())


def test_a_network_that_is_never_called_as_a_whole_is_compiled_in_parts(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    method = cases_of("munit")[0].build()
    Trainer(method, Training(total_images=4, batch_size=4, compile=True), seed=0, comm=Comm.alone())
    assert compiled == [method.D_1, method.D_2, *method.G_1.children(), *method.G_2.children()]


@pytest.mark.slow
def test_compiled_networks_train():
    case = cases_of("segan")[0]
    results = []
    for compiled in (False, True):
        method = case.build()
        training = Training(total_images=16, batch_size=4, compile=compiled)
        trainer = Trainer(method, training, seed=0, comm=Comm.alone())
        for _ in range(2):
            trainer.step(batches(case, method, Comm.alone(), trainer.batches, 4))
        results.append({name: tensor.clone() for name, tensor in method.state_dict().items()})
    assert results[0].keys() == results[1].keys()
    for name, tensor in results[0].items():
        torch.testing.assert_close(results[1][name], tensor, rtol=0, atol=1e-3, msg=name)
