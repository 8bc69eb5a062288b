"""DRIT: the method in `method`, its settings in `config`, its networks in `networks`."""

from i2idist.methods.drit.config import DRITConfig
from i2idist.methods.drit.method import DRIT

__all__ = ["DRIT", "DRITConfig"]
