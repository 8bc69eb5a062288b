"""Who may run what, from the trials alone."""

import random

import optuna
import pytest
from optuna.trial import TrialState

from i2idist.tuning.ledger import DRIVER, FAILURE, ORIGIN, RETRY_OF, chains, is_over, may_ask, surplus


def trial(number, state, *, origin=None, failure=None, **attrs):
    attrs |= {} if origin is None else {ORIGIN: origin}
    attrs |= {} if failure is None else {FAILURE: {"kind": failure, "why": failure, "retry": failure == "lost"}}
    found = optuna.create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None, user_attrs=attrs)
    found.number = number
    return found


C, P, R, W, F = (TrialState[name] for name in ("COMPLETE", "PRUNED", "RUNNING", "WAITING", "FAIL"))


def test_attempts_at_a_point_are_one_chain():
    found = chains(
        [trial(0, F, failure="lost"), trial(1, C), trial(2, F, origin=0, failure="lost"), trial(3, C, origin=0)]
    )
    assert [(chain.origin, chain.state, len(chain.attempts)) for chain in found] == [
        (0, "complete", 3),
        (1, "complete", 1),
    ]
    assert found[0].latest.number == 3
    assert found[0].count("lost") == 2


def test_a_failed_attempt_waits_until_it_is_repeated_or_given_up():
    lost = [trial(0, F, failure="lost")]
    assert (chains(lost)[0].state, chains(lost)[0].unrepeated.number) == ("waiting", 0)
    queued = [*lost, trial(1, W, origin=0)]
    assert (chains(queued)[0].state, chains(queued)[0].unrepeated) == ("waiting", None)
    given_up = [trial(0, F, failure="given up")]
    assert (chains(given_up)[0].state, chains(given_up)[0].unrepeated) == ("failed", None)
    assert is_over(given_up, 1)
    assert not is_over(lost, 1)


def test_of_drivers_that_ask_at_once_those_within_the_budget_go_on():
    trials = [trial(0, C), trial(1, R), trial(2, R), trial(3, R)]
    assert surplus(1, trials, 2) is None
    assert "budget of 2" in surplus(2, trials, 2)
    assert "budget of 2" in surplus(3, trials, 2)
    assert not may_ask(trials, 2)


def test_a_trial_that_was_not_run_holds_no_place():
    trials = [trial(0, C), trial(1, F, failure="unrun"), trial(2, R)]
    assert surplus(2, trials, 2) is None
    assert not may_ask(trials, 2)
    assert may_ask(trials, 3)


def test_a_point_that_was_queued_twice_is_run_once():
    lost = trial(0, F, failure="lost")
    twins = [lost, trial(1, R, origin=0), trial(2, R, origin=0)]
    assert surplus(1, twins, 5) is None
    assert "same point" in surplus(2, twins, 5)
    done = [lost, trial(1, C, origin=0), trial(2, R, origin=0)]
    assert "same point" in surplus(2, done, 5)
    assert chains(done)[0].state == "complete"


def test_a_queued_point_keeps_its_place_before_new_ones():
    """Trial 0 was lost, so 2 repeats it; 3 was asked for at the same time."""
    trials = [trial(0, F, failure="lost"), trial(1, C), trial(2, W, origin=0), trial(3, R)]
    assert "budget of 2" in surplus(3, trials, 2)
    assert may_ask(trials, 2)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_drivers_do_between_their_calls_each_point_of_the_budget_ends_once(seed):
    """Three drivers, each a few steps behind the others, that die at any step; Optuna's own states decide."""
    draw, budget = random.Random(seed), 7
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = study._storage
    drivers = {name: step_by_step(name, study, storage, budget, draw) for name in "abc"}
    born = 3
    for _ in range(20_000):
        if not drivers:
            break
        name = draw.choice(sorted(drivers))
        if draw.random() < 0.02 and born < 12:  # killed, and another is started
            del drivers[name]
            for lost in study.get_trials(states=(R,)):
                if lost.user_attrs.get(DRIVER) == name:
                    mark(storage, lost, "lost")
                elif DRIVER not in lost.user_attrs and lost.user_attrs.get("asker") == name:
                    mark(storage, lost, "unrun")
            born += 1
            drivers[f"d{born}"] = step_by_step(f"d{born}", study, storage, budget, draw)
            continue
        try:
            next(drivers[name])
        except StopIteration:
            del drivers[name]
    assert not drivers
    found = chains(study.trials)
    assert [chain.state for chain in found] == ["complete"] * budget
    complete = [chain for chain in found for attempt in chain.attempts if attempt.state == C]
    assert len(complete) == budget


def mark(storage, lost, kind):
    storage.set_trial_user_attr(lost._trial_id, FAILURE, {"kind": kind, "why": kind, "retry": kind == "lost"})
    storage.set_trial_state_values(lost._trial_id, F)


def step_by_step(name, study, storage, budget, draw):
    """A driver that pauses between any two calls of the storage."""
    while not is_over(study.trials, budget):
        yield
        for chain in chains(study.trials):
            if chain.unrepeated:
                yield
                study.add_trial(
                    optuna.create_trial(
                        state=W,
                        system_attrs={"fixed_params": dict(chain.unrepeated.params)},
                        user_attrs={ORIGIN: chain.origin, RETRY_OF: chain.unrepeated.number},
                    )
                )
        asked = may_ask(study.trials, budget)
        yield
        if not asked:
            continue
        mine = study.ask()
        mine.set_user_attr("asker", name)
        yield
        mine.set_user_attr(DRIVER, name)
        reason = surplus(mine.number, study.trials, budget)
        yield
        if reason:
            mark(storage, study.trials[mine.number], "unrun")
            continue
        mine.suggest_float("x", 0, 1)
        for _ in range(draw.randrange(6)):
            yield
        study.tell(mine, 1.0)
