"""Batch translation: a dataset or a folder of images through a trained model, into a dataset; or a generator's samples.

`translate` and `sample` are the job: sharded, on Ray actors or in one process, restartable at any point.
"""

from i2idist.translate.job import Options
from i2idist.translate.run import Progress, Result, sample, translate

__all__ = ["Options", "Progress", "Result", "sample", "translate"]
