"""When people write."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.people.pace import Pace, per_writer


@given(st.integers(), st.floats(min_value=0, max_value=0.5))
def test_the_rate_is_held_whatever_a_turn_takes(seed: int, takes: float) -> None:
    """A turn that takes half of the time between two turns makes nobody write less: the load is open."""
    now, turns = 0.0, 4000
    pace = Pace(1.0, now, random.Random(seed))
    for _ in range(turns):
        now += pace.wait_s(now) + takes
    assert turns / now == pytest.approx(1.0, rel=0.12)


def test_what_was_missed_for_long_is_given_up() -> None:
    """After an hour without a network nobody writes an hour's messages."""
    pace = Pace(1.0, 0.0, random.Random(1))
    at_once = 0
    while pace.wait_s(3600.0) == 0.0:
        at_once += 1
    assert at_once < 30


def test_all_who_write_make_the_rate_together() -> None:
    """Lurkers write nothing; others make up for it."""
    assert per_writer(rate=80, people=200, writing=0.8) * 200 * 0.8 == pytest.approx(80)
    assert per_writer(rate=5, people=1, writing=0.8) == 5
