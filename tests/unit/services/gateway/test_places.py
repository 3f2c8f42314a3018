"""The index finds who lives there, and forgets who does not."""

from hypothesis import given
from hypothesis import strategies as st

from libs.wire.events import LEVELS
from libs.wire.frames import Places
from services.gateway.places import PlaceIndex
from tests.unit.services.gateway.fakes import session

_place = st.sampled_from(["", "p1", "p2", "p3"])
_homes = st.builds(Places, _place, _place, _place, _place)


@given(st.lists(st.tuples(st.integers(0, 4), st.none() | _homes), max_size=40))
def test_it_finds_exactly_who_lives_there(steps: list[tuple[int, Places | None]]) -> None:
    """Whatever came before: arrivals, moves and departures."""
    index = PlaceIndex()
    sessions = [session(f"u{number}", f"s{number}")[0] for number in range(5)]
    homes: dict[int, Places] = {}
    for number, home in steps:
        if home is None:
            index.remove(sessions[number])
            homes.pop(number, None)
        else:
            index.put(sessions[number], home)
            homes[number] = home
    for level in LEVELS:
        found = sorted(one.id for one in index.at(level, ["p1", "p2", "p1", "elsewhere"]))
        assert found == sorted(f"s{n}" for n, home in homes.items() if getattr(home, level) in ("p1", "p2"))
    for one in sessions:
        index.remove(one)
    assert not index._there
    assert not index._homes
