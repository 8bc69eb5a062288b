"""A method that takes its time without computing: faults hit it in the midst, also where cores are scarce."""

import time
from dataclasses import dataclass

from i2idist.methods.pix2pix import Pix2Pix, Pix2PixConfig


@dataclass(frozen=True, kw_only=True)
class SlowConfig(Pix2PixConfig):
    """Pix2pix's settings, and the seconds that each step waits."""

    pause_s: float = 0.25


class Slow(Pix2Pix):
    """Pix2pix, waiting."""

    Config = SlowConfig

    def generator_terms(self, step):
        time.sleep(self.config.pause_s)
        return super().generator_terms(step)
