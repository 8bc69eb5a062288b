"""Running every check on a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from i2idist.conformance.checks import CHECKS, Check, cases_of
from i2idist.conformance.pool import WorkerPool
from i2idist.conformance.training import Case


@dataclass(frozen=True)
class Finding:
    """One check's result on one config: `problems` is empty where the promise is kept."""

    method: str
    config: str
    check: str
    problems: tuple[str, ...]


def problems_of(check: Check, case: Case, pool: WorkerPool) -> tuple[str, ...]:
    """How a method breaks a promise, an exception of its own included."""
    try:
        return tuple(check(case, pool))
    except Exception as error:  # whatever a method raises is a finding about it
        last = str(error).strip().splitlines()[-1:] or [""]
        return (f"{type(error).__name__}: {last[0]}",)


def conform(
    method: str, *, every: bool = False, on_finding: Callable[[Finding], None] = lambda finding: None
) -> list[Finding]:
    """Run every check on a method's first tiny config, or on `every` one.

    Args:
        method: a name of `METHODS` or `package.module:Class`.
        every: all of the method's tiny configs.
        on_finding: called with each finding as it is made.
    """
    findings = []
    with WorkerPool() as pool:
        for case in cases_of(method, every):
            for name, check in CHECKS.items():
                finding = Finding(method, case.config_name, name, problems_of(check, case, pool))
                on_finding(finding)
                findings.append(finding)
    return findings
