"""Mix-and-match networks: of modalities see `method`, of domains without pairs `unpaired`."""

from i2idist.methods.mmnet.config import MMNetConfig
from i2idist.methods.mmnet.method import MMNet
from i2idist.methods.mmnet.unpaired import MMNetUnpaired, MMNetUnpairedConfig

__all__ = ["MMNet", "MMNetConfig", "MMNetUnpaired", "MMNetUnpairedConfig"]
