"""Mix-and-match networks: see `method`."""

from i2idist.methods.mmnet.config import MMNetConfig
from i2idist.methods.mmnet.method import MMNet

__all__ = ["MMNet", "MMNetConfig"]
