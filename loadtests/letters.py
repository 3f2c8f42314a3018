"""Who writes to whom."""

from collections.abc import Sequence

from msgspec import Struct

from loadtests.phone import Person


class Letter(Struct, frozen=True):
    """Who writes (an index into those who are connected), to whom (a field of JSON), and how many get it."""

    sender: int
    to: str
    copies: int = 1


def pairs(people: Sequence[Person]) -> list[Letter]:
    """Everyone writes to a neighbour, who writes back; neighbours in the list are on different gateways."""
    count = len(people) // 2 * 2
    return [Letter(number, f'"recipientId":"{people[number ^ 1].uid}"') for number in range(count)]


def group_letters(people: Sequence[Person], members: int) -> list[Letter]:
    """Everyone writes to their group, one group after another; `g50-0` are the first 50 people."""
    groups = len(people) // members
    return [
        Letter(group * members + member, f'"groupId":"g{members}-{group}"', members - 1)
        for member in range(members)
        for group in range(groups)
    ]
