"""The contract's own arithmetic."""

import pytest

from i2idist.errors import ConfigError, SizeError
from i2idist.method import Domain, Domains, Schedule, check_size


def test_schedule_holds_then_falls_linearly_to_final():
    schedule = Schedule(hold=0.5, final=0.0)
    assert [schedule.factor(i, 100) for i in (0, 50, 75, 100)] == [1.0, 1.0, 0.5, 0.0]
    assert Schedule().factor(100, 100) == 1.0
    assert Schedule(step_every_images=10).factor(25, 100) == 0.25
    fifths = Schedule(step_every_images=10, step_factor=0.2)
    assert [fifths.factor(i, 100) for i in (9, 10, 25)] == pytest.approx([1.0, 0.2, 0.04])


def test_schedule_may_fall_at_once():
    schedule = Schedule(hold=0.5, final=0.1, linear=False)
    assert [schedule.factor(i, 100) for i in (0, 49, 50, 100)] == [1.0, 1.0, 0.1, 0.1]


A, B, C = Domain("a", 1, 8, 8), Domain("b", 3, 8, 8), Domain("c", 1, 8, 8, classes=4)


def test_two_domains_lead_to_each_other_whatever_they_are_called():
    for first, second in ((A, B), (B, A), (C, B)):
        domains = Domains((first, second))
        assert domains.route() == domains.route("b") == (first, second)
        assert domains.route("a") == (second, first)
    assert Domains((C, B)).route("b->c") == (B, C)
    assert Domains((A,), ("x", "y")).route("y") == (A, A)


def test_paths_lead_from_one_or_several_to_one():
    domains = Domains((A, B, C))
    assert domains.route() == (A, B)
    assert domains.route("c->b") == (C, B) and domains.route("c->a->b") == (C, B)
    assert domains.route("c") == (A, C) and domains.route("a") == (B, A)
    joined, goal = domains.route("b+c->a")
    assert (joined, goal) == (Domain("b+c", 4, 8, 8), A)
    assert domains.sources("b+c->a") == (B, C) and domains.sources("c->a->b") == (C,)
    assert domains.path("c->a->b") == ((C,), (A,), (B,))


@pytest.mark.parametrize("target", ["a->d", "d", "a+a->b", "a->b+c", "a->b+c->a", "a->", "->a"])
def test_paths_that_lead_nowhere_are_refused(target):
    with pytest.raises(ConfigError, match="no domain|write FROM->TO"):
        Domains((A, B, C)).route(target)


def test_size_errors_name_the_nearest_that_works():
    check_size(64, 32, 16, "pix2pix")
    with pytest.raises(SizeError, match=r"multiples of 16, not 30x50.*32x48"):
        check_size(30, 50, 16, "pix2pix")
    with pytest.raises(SizeError, match="16x16"):
        check_size(0, 16, 16, "pix2pix")
