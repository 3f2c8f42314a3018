"""Sockets are spread evenly over gateways that take them: who has too many sends some away, and then it ends."""

import random
from collections.abc import Callable
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.figures import Figures, GatewayFigures, RouterFigures
from services.gateway import balance

_crowds = st.dictionaries(st.sampled_from([f"g{n}" for n in range(9)]), st.integers(0, 20_000), min_size=1)


def _gateway(name: str, connections: int, state: str = "accepting") -> GatewayFigures:
    return GatewayFigures(id=name, connections=connections, state=state)


def test_gateways_that_leave_are_no_part_of_it() -> None:
    """They are nobody's target, and what they still have is in no mean."""
    figures: list[Figures] = [
        _gateway("g1", 100),
        _gateway("g2", 0),
        _gateway("g3", 900, "draining"),
        _gateway("g4", 0, "drained"),
        RouterFigures(id="r1"),
    ]
    connections = balance.accepting(figures)
    assert connections == {"g1": 100, "g2": 0}
    assert balance.order(connections, "1", 100).target == 50


def test_a_new_gateway_gets_its_share_though_nobody_has_much_too_many() -> None:
    """Ten gateways with a tenth too many each: nobody is far over the mean, one is far below."""
    connections = {f"g{n}": 1000 for n in range(10)} | {"new": 0}
    given_ = balance.order(connections, "1", 100)
    assert given_.target == 910
    assert {name: share.excess for name, share in given_.shares.items()} == {f"g{n}": 90 for n in range(10)}


@pytest.mark.parametrize("connections", [{}, {"g1": 5000}, {"g1": 9, "g2": 0}, {"g1": 1050, "g2": 950, "g3": 1000}])
def test_nobody_is_moved_where_all_are_near_enough(connections: dict[str, int]) -> None:
    """One gateway alone, a handful of sockets, a twentieth."""
    assert balance.order(connections, "1", 100).shares == {}


@given(_crowds, st.floats(1, 1000))
def test_an_order_moves_what_is_above_the_mean_and_no_more(connections: dict[str, int], per_s: float) -> None:
    """All parts of the bound together are the bound; nobody is ordered below the mean."""
    given_ = balance.order(connections, "1", per_s)
    for name, share in given_.shares.items():
        assert share.excess == connections[name] - given_.target > 0
    assert sum(share.sign_ins_per_s for share in given_.shares.values()) <= per_s * 1.000001
    if given_.shares:
        assert not balance.is_even(connections, given_.target)


@given(_crowds, st.integers(0, 40_000), st.integers(0, 40_000), st.data())
def test_nobody_goes_below_their_share_or_sends_away_more_than_it_takes(
    connections: dict[str, int], own: int, closed: int, data: st.DataObject
) -> None:
    """Whatever came or went meanwhile, also whole gateways."""
    given_ = balance.order(connections, "1", 100)
    now = {name: data.draw(st.integers(0, 20_000)) for name in connections if data.draw(st.booleans())}
    for name in (*connections, "stranger"):
        left = balance.left_to_close(given_, name, now, own, closed)
        assert left >= 0
        if left:
            assert own - left >= given_.target
            assert closed + left <= given_.shares[name].excess * len(now)
            assert name in now


def _in_turn(names: list[str]) -> Callable[[str, dict[str, int]], str]:
    turn = cycle(names)
    return lambda _, __: next(turn)


def _at_random(names: list[str]) -> Callable[[str, dict[str, int]], str]:
    chance = random.Random(7)
    return lambda _, __: chance.choice(names)


def _least(_: list[str]) -> Callable[[str, dict[str, int]], str]:
    return lambda _, connections: min(connections, key=connections.__getitem__)


def _sticky(_: list[str]) -> Callable[[str, dict[str, int]], str]:
    return lambda name, _: name


def _carry_out(given_: balance.Order, connections: dict[str, int], deal: Callable[[str, dict[str, int]], str]) -> int:
    """Look after look, until nobody may close any more; how many were closed."""
    closed = dict.fromkeys(connections, 0)
    while True:
        moves = {
            name: balance.left_to_close(given_, name, connections, connections[name], closed[name])
            for name in connections
        }
        if not any(moves.values()):
            return sum(closed.values())
        for name, left in moves.items():
            for _ in range(min(left, 25)):  # a look's worth
                connections[name] -= 1
                closed[name] += 1
                connections[deal(name, connections)] += 1


@pytest.mark.parametrize("ingress", [_in_turn, _at_random, _least, _sticky])
@pytest.mark.parametrize("crowd", [(3334, 3333, 3333, 0), (5000, 5000, 0), (10_000, 0), (900, 100, 50, 0, 0)])
def test_an_order_comes_to_an_end_whoever_deals_out_those_who_come_back(
    ingress: Callable[[list[str]], Callable[[str, dict[str, int]], str]], crowd: tuple[int, ...]
) -> None:
    """With as few moves as the ingress allows; one that sends everyone back is not fought for ever."""
    connections = {f"g{number}": sockets for number, sockets in enumerate(crowd)}
    deal = ingress(list(connections))
    given_ = balance.order(connections, "1", 100)
    excess = sum(share.excess for share in given_.shares.values())
    closed = _carry_out(given_, connections, deal)
    assert closed <= (excess if ingress is _least else excess * len(crowd))
    assert sum(connections.values()) == sum(crowd)
    if ingress is _sticky:
        return
    # Dealt out in turn, one that had few may have too many now: a second order sees to it.
    for number in ("2", "3"):
        _carry_out(balance.order(connections, number, 100), connections, deal)
    assert max(connections.values()) - given_.target <= max(10, 0.12 * given_.target)
