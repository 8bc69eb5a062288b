"""SDIT: the method in `method`, its settings in `config`, its networks in `networks`."""

from i2idist.methods.sdit.config import SDITConfig
from i2idist.methods.sdit.method import SDIT

__all__ = ["SDIT", "SDITConfig"]
