"""Which trials count, which wait, and which may begin: a study's trials, read as chains of attempts.

A trial that fails is tried again as another Optuna trial with the same point, so that Optuna's own states stay true. A
chain is a point and its attempts; it is named by its first attempt's number, and holds one place of the budget. Every
driver reads the same chains from the storage, so all of them agree on what is beyond the budget, whatever happened
between two of their calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

ORIGIN, RETRY_OF, FAILURE, DRIVER = "origin", "retry_of", "failure", "driver"
"""Attributes of a trial: its chain; the attempt that it repeats; why it failed; who runs it."""
MAX_LOST = 10
"""How often a trial whose process was killed is tried again."""

Kind = Literal["error", "lost", "stopped", "given up", "unrun"]
"""`error`: training raised one; `lost`: its process or driver died; `stopped`: with the search; `given up`: for good;
`unrun`: it was beyond the budget, or another attempt was quicker.
"""
State = Literal["complete", "pruned", "running", "waiting", "failed"]


@dataclass(frozen=True)
class Chain:
    """A point and its attempts, in order, without those that weren't run."""

    origin: int
    attempts: tuple[FrozenTrial, ...]

    @property
    def latest(self) -> FrozenTrial:
        """The attempt that counts: the one that finished, else the newest."""
        ended = (TrialState.COMPLETE, TrialState.PRUNED)
        return next((trial for trial in self.attempts if trial.state in ended), self.attempts[-1])

    @property
    def state(self) -> State:
        """How the point stands. A failed attempt that is still to be repeated waits."""
        state = self.latest.state
        if state == TrialState.FAIL:
            return "waiting" if self.unrepeated else "failed"
        names: dict[TrialState, State] = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
            TrialState.RUNNING: "running",
            TrialState.WAITING: "waiting",
        }
        return names[state]

    @property
    def unrepeated(self) -> FrozenTrial | None:
        """A failed attempt that must be repeated, and isn't yet."""
        last = self.attempts[-1]
        is_over = last.state == TrialState.FAIL and failure(last).get("retry")
        return last if is_over else None

    def count(self, kind: Kind) -> int:
        """How many attempts ended so."""
        return sum(failure(trial).get("kind") == kind for trial in self.attempts)

    def failures(self) -> list[str]:
        """Why attempts failed."""
        return [failure(trial)["why"] for trial in self.attempts if failure(trial)]


def failure(trial: FrozenTrial) -> dict[str, Any]:
    """Why it failed: `kind`, `why`, and `retry`, whether it is to be repeated; empty where it didn't."""
    found: dict[str, Any] = trial.user_attrs.get(FAILURE, {}) if trial.state == TrialState.FAIL else {}
    return found


def origin_of(trial: FrozenTrial) -> int:
    """Its chain."""
    return int(trial.user_attrs.get(ORIGIN, trial.number))


def chains(trials: Sequence[FrozenTrial]) -> list[Chain]:
    """The chains of a study's trials, by origin."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if failure(trial).get("kind") != "unrun":
            found.setdefault(origin_of(trial), []).append(trial)
    return [Chain(origin, tuple(attempts)) for origin, attempts in sorted(found.items())]


def surplus(number: int, trials: Sequence[FrozenTrial], budget: int) -> str | None:
    """Why a trial that was just asked for must not run; None where it may.

    Of drivers that ask at the same moment, exactly those whose chains come first by number go on.
    """
    everything = chains(trials)
    mine = next(chain for chain in everything if any(trial.number == number for trial in chain.attempts))
    others = [trial for trial in mine.attempts if trial.number < number]
    if any(trial.state in (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED) for trial in others):
        return f"trial {mine.latest.number} is the same point"
    if everything.index(mine) >= budget:
        return f"the budget of {budget} trials is taken"
    return None


def may_ask(trials: Sequence[FrozenTrial], budget: int) -> bool:
    """Whether there is something to run: a place in the budget, or an attempt that waits in one."""
    everything = chains(trials)
    if len(everything) < budget:
        return True
    return any(chain.latest.state == TrialState.WAITING for chain in everything[:budget])


def is_over(trials: Sequence[FrozenTrial], budget: int) -> bool:
    """Whether every place of the budget has come to its end."""
    counted = chains(trials)[:budget]
    return len(counted) == budget and all(chain.state in ("complete", "pruned", "failed") for chain in counted)
