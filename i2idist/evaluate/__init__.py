"""Evaluation: models measured by protocols, the same value under any number of workers, each with a record.

`evaluate` is the job, on Ray actors or in one process; `PROTOCOLS` lists what there is to measure.
"""

from i2idist.evaluate.protocol import Choice, Protocol, Sampling
from i2idist.evaluate.protocols import PROTOCOLS, choose
from i2idist.evaluate.record import Record, table
from i2idist.evaluate.run import Evaluated, Progress, evaluate

__all__ = [
    "PROTOCOLS",
    "Choice",
    "Evaluated",
    "Progress",
    "Protocol",
    "Record",
    "Sampling",
    "choose",
    "evaluate",
    "table",
]
