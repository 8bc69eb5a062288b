"""Starting, continuing, stopping and following runs, on one process or on Ray workers."""

from i2idist.launch.export import export
from i2idist.launch.runs import Result, logs, resume, stop, train

__all__ = ["Result", "export", "logs", "resume", "stop", "train"]
