"""Every method keeps every promise; and the suite notices when one is broken."""

import pytest
import torch

from i2idist.conformance import CHECKS, Case, cases_of
from i2idist.conformance.checks import compare
from i2idist.conformance.suite import problems_of
from i2idist.conformance.training import Trace
from i2idist.methods import METHODS
from tests import broken


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("method", METHODS)
def test_methods_keep_their_promises(method, check, pool):
    for case in cases_of(method):
        assert CHECKS[check](case, pool) == []


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("method", METHODS)
def test_every_variant_keeps_its_promises(method, check, pool):
    for case in cases_of(method, every=True)[1:]:
        assert CHECKS[check](case, pool) == []


@pytest.mark.parametrize(
    ("name", "check", "complaint"),
    [
        ("Sound", None, None),
        ("LocalMean", "any_number_of_workers", "off by"),
        ("LocalMean", "resumed_by_other_workers", "off by"),
        ("HiddenState", "stopped_after_any_step", "differs after resuming"),
        ("UnkeyedNoise", "any_number_of_workers", "off by"),
        ("TrainsOthers", "updates_change_their_player", "changed"),
        ("LeavesOut", "updates_change_their_player", "no update changed"),
        ("PicklesState", "checkpoints_without_pickle", "buffers"),
        ("Raises", "translation_is_a_function", "ValueError: a mistake"),
        ("IgnoresCode", "translation_is_a_function", "ignores the code"),
        ("LooksAround", "translation_is_a_function", "depends on"),
        ("OutOfRange", "translation_is_a_function", "leaves"),
        ("RefusesWithoutHelp", "odd_and_oblong_sizes", "without naming"),
    ],
)
def test_a_broken_promise_is_noticed(name, check, complaint, pool):
    path = f"tests.broken:{name}"
    case = Case(path, "only", vars(broken)[name].tiny()["only"])
    if check is None:
        assert {n: c(case, pool) for n, c in CHECKS.items()} == {n: [] for n in CHECKS}
    else:
        assert any(complaint in problem for problem in problems_of(CHECKS[check], case, pool))


def test_a_gradient_that_is_no_number_agrees_with_nothing():
    nan = {"w": torch.full((2,), float("nan"))}
    trace = Trace([("player", nan)], nan)
    assert len(compare(trace, trace, 1.0, "the same")) == 2
