"""The experiment database: datasets, jobs, translations and evaluations, and the way from each to where it came from.

It holds only what neither MLflow nor the folders of runs, models and datasets hold, and points to those.
`I2IDIST_CATALOG` names it; without, it is a SQLite file beside the runs. The one package that imports SQLAlchemy.
"""

from i2idist.catalog.engine import default_url, exists
from i2idist.catalog.schema import version
from i2idist.catalog.store import Catalog

__all__ = ["Catalog", "default_url", "exists", "version"]
