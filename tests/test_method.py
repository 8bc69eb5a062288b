"""The contract's own arithmetic."""

import pytest

from i2idist.errors import SizeError
from i2idist.method import Schedule, check_size


def test_schedule_holds_then_falls_linearly_to_final():
    schedule = Schedule(hold=0.5, final=0.0)
    assert [schedule.factor(i, 100) for i in (0, 50, 75, 100)] == [1.0, 1.0, 0.5, 0.0]
    assert Schedule().factor(100, 100) == 1.0
    assert Schedule(halve_every_images=10).factor(25, 100) == 0.25


def test_size_errors_name_the_nearest_that_works():
    check_size(64, 32, 16, "pix2pix")
    with pytest.raises(SizeError, match=r"multiples of 16, not 30x50.*32x48"):
        check_size(30, 50, 16, "pix2pix")
    with pytest.raises(SizeError, match="16x16"):
        check_size(0, 16, 16, "pix2pix")
