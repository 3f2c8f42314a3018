"""Who should own a partition: everybody comes to the same answer, and few answers change."""

from hypothesis import given
from hypothesis import strategies as st

from libs.streams.leases import rightful_owner

ROUTERS = st.sets(st.text(min_size=1, max_size=12), min_size=1, max_size=6)
PARTITIONS = st.integers(min_value=0, max_value=98)


@given(PARTITIONS, ROUTERS)
def test_the_answer_does_not_depend_on_who_asks(partition: int, routers: set[str]) -> None:
    """Nor on the order in which the living are known; it is one of them."""
    owner = rightful_owner(partition, routers)
    assert owner in routers
    assert owner == rightful_owner(partition, sorted(routers)) == rightful_owner(partition, sorted(routers)[::-1])


@given(PARTITIONS, ROUTERS, st.text(min_size=1, max_size=12))
def test_who_comes_takes_partitions_only_for_itself(partition: int, routers: set[str], newcomer: str) -> None:
    """A partition stays where it is, or goes to the newcomer."""
    assert rightful_owner(partition, routers | {newcomer}) in (rightful_owner(partition, routers), newcomer)


@given(PARTITIONS, ROUTERS)
def test_who_goes_leaves_the_partitions_of_others_alone(partition: int, routers: set[str]) -> None:
    """Only what the departed owned moves."""
    owner = rightful_owner(partition, routers)
    for gone in routers - {owner}:
        assert rightful_owner(partition, routers - {gone}) == owner


def test_without_routers_there_is_no_owner() -> None:
    """The partition waits."""
    assert rightful_owner(0, ()) is None


def test_partitions_are_spread() -> None:
    """Of three routers, none is left without work."""
    owners = [rightful_owner(partition, ("r1", "r2", "r3")) for partition in range(16)]
    assert {owners.count(router) > 1 for router in ("r1", "r2", "r3")} == {True}
