"""The schedule of faults: what the seed decides, and what no schedule may have."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos.plan import _ALONE, KINDS, Fault, draw

_seeds = st.integers(0, 10_000)
_seconds = st.sampled_from([30.0, 60.0, 600.0])


@settings(deadline=None, max_examples=50)
@given(_seeds, _seconds)
def test_a_seed_gives_the_same_faults_every_time(seed: int, seconds: float) -> None:
    """So that what was found once can be had again."""
    assert draw(seed, seconds) == draw(seed, seconds)


def test_another_seed_gives_other_faults() -> None:
    """Or there would be no use in trying many."""
    assert len({tuple(draw(seed, 60.0)) for seed in range(20)}) == 20


@settings(deadline=None, max_examples=50)
@given(_seeds, _seconds)
def test_every_fault_ends_before_the_run_does(seed: int, seconds: float) -> None:
    """What comes back needs time to; and nothing lasts for long in a short run."""
    faults = draw(seed, seconds)
    assert faults == sorted(faults, key=lambda fault: fault.at_s)
    assert all(fault.over_at_s <= seconds * 0.91 for fault in faults)
    assert all(fault.lasts_s <= seconds / 2 for fault in faults)


@settings(deadline=None, max_examples=50)
@given(_seeds, _seconds)
def test_what_may_not_go_together_does_not(seed: int, seconds: float) -> None:
    """Two faults of the broker at once would be one; a fault of the broker and one of the store may well meet."""
    for one, other in combinations(draw(seed, seconds), 2):
        if any(one.kind in group and other.kind in group for group in _ALONE):
            assert one.over_at_s <= other.at_s


@settings(deadline=None, max_examples=50)
@given(_seeds)
def test_ten_minutes_have_every_kind_of_fault(seed: int) -> None:
    """Each comes before any comes for the second time, as far as it may."""
    assert {fault.kind for fault in draw(seed, 600.0)} == set(KINDS)


@settings(deadline=None, max_examples=50)
@given(_seeds, st.sets(st.sampled_from(KINDS), min_size=1))
def test_only_what_is_asked_for_comes(seed: int, kinds: set[str]) -> None:
    """A machine may not have all that a fault needs."""
    assert {fault.kind for fault in draw(seed, 120.0, [kind for kind in KINDS if kind in kinds])} <= kinds


def test_a_fault_says_what_it_is() -> None:
    """As the run prints it."""
    assert str(Fault(3.2, "kill", ("r1",))) == "   3.2 s  kill r1"
    assert str(Fault(10.0, "clock stepped", ("g1",), 8.0, -300.0)) == "  10.0 s  clock stepped g1 by -300 s for 8.0 s"
