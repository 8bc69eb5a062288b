"""Batch translation: a dataset or a folder of images through a trained model, into a dataset.

`translate` is the job: sharded, on Ray actors or in one process, restartable at any point. `translate_split` and
`pack_translations` do it in memory, for a demo or a notebook.
"""

from i2idist.data.transforms import to_pixels
from i2idist.translate.job import Options
from i2idist.translate.run import Progress, Result, translate
from i2idist.translate.split import Translated, open_labelled, pack_translations, translate_split

__all__ = [
    "Options",
    "Progress",
    "Result",
    "Translated",
    "open_labelled",
    "pack_translations",
    "to_pixels",
    "translate",
    "translate_split",
]
