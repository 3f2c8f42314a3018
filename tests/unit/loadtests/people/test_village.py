"""Who there is, and who should get what."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loadtests.people.village import Village, kind, share, village_for
from services.local import people

_villages = st.integers(min_value=1, max_value=700).map(lambda half: Village(2 * half))


def _in(mask: int) -> set[int]:
    return {number for number in range(1, mask.bit_length() + 1) if mask >> number - 1 & 1}


@given(_villages, st.data())
def test_partners_write_to_each_other(village: Village, data: st.DataObject) -> None:
    """And to nobody else."""
    number = data.draw(st.integers(1, village.size))
    partner = village.partner(number)
    assert partner != number
    assert village.partner(partner) == number
    assert _in(village.recipients("d", number)) == {partner}


@given(_villages)
def test_who_should_get_a_message_is_who_the_cluster_has_in_the_group(village: Village) -> None:
    """The document for the store and the masks of the books say the same."""
    file = people.parse(msgspec.json.encode(village.document()))
    members = {group.id: set(group.members) for group in file.groups}
    for number in (1, village.size // 2, village.size):
        for size in (50, 500):
            target = village.group(number, size)
            got = {village.person(n) for n in _in(village.recipients(target, number))}
            assert got | {village.person(number)} == members[village.name(target)]


@given(_villages)
def test_who_hears_a_broadcast_is_who_lives_there(village: Village) -> None:
    """As the store has it."""
    file = people.parse(msgspec.json.encode(village.document()))
    for home in village.homes():
        living = {user.id for user in file.users if user.location.village_id == village.name(home)}
        assert {village.person(n) for n in _in(village.recipients(home, 1))} == living - {village.person(1)}


@given(st.integers(1, 900), st.integers(1, 16))
def test_workers_share_the_people_and_each_finds_enough(wanted: int, shares: int) -> None:
    """Nobody is played twice, whichever worker plays how many; the first of each share may be the coordinator."""
    village = village_for(wanted, shares)
    parts = [share(village, index, shares) for index in range(shares)]
    assert sorted(number for part in parts for number in part) == list(range(1, village.size + 1))
    assert min(map(len, parts)) >= -(-wanted // shares)
    roles = {user.id: user.role for user in people.parse(msgspec.json.encode(village.document())).users}
    assert all(roles[village.person(part[0])] == "coordinator" for part in parts)


def test_a_target_is_called_by_what_it_is() -> None:
    """In a report."""
    assert [kind(target) for target in ("d", "g50-3", "g500-0", "v7")] == [
        "direct",
        "group of 50",
        "group of 500",
        "broadcast",
    ]
