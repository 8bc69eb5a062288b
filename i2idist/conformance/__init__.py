"""The promises that every method keeps, tested: `i2idist conform METHOD` and the project's own tests run this suite.

A method is added to it by name alone; what the suite needs to know of a method is `Method.tiny`.
"""

from i2idist.conformance.checks import CHECKS, cases_of
from i2idist.conformance.pool import WorkerPool
from i2idist.conformance.suite import Finding, conform
from i2idist.conformance.training import Case

__all__ = ["CHECKS", "Case", "Finding", "WorkerPool", "cases_of", "conform"]
