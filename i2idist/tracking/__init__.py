"""MLflow: one run for each training, complete however often MLflow or the training was away.

The one place that imports MLflow.
"""

from i2idist.tracking.page import About
from i2idist.tracking.run import Tracker, deliver_rest, require_server, start_tracking
from i2idist.tracking.settings import Tracking, resolve_uri

__all__ = ["About", "Tracker", "Tracking", "deliver_rest", "require_server", "resolve_uri", "start_tracking"]
