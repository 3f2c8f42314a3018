"""Who there is: people in pairs, in groups of 50 and of 500, in villages of 100. All of it follows from a number.

    python -m loadtests.people.village 2000 > people.json      for `talowa import people.json`

Person 1 is the user `load-1`, and so on: what `talowa token --count 2000 --prefix load-` makes tokens for.
Sets of people are masks: person n is the bit n-1 of an integer, so that thousands fit into a few machine words.
"""

import sys
from typing import Any, Final

import msgspec
from msgspec import Struct

PREFIX: Final = "load-"
GROUP_SIZES: Final = (50, 500)
_VILLAGE_SIZE: Final = 100
# Whoever plays the coordinator must be one. Each worker has a share of the people, and its first is within these.
COORDINATORS: Final = 64


class Village(Struct, frozen=True):
    """`size` people, an even number: everyone has a partner."""

    size: int

    def person(self, number: int) -> str:
        """The user id of person `number`, from 1 on."""
        return f"{PREFIX}{number}"

    def partner(self, number: int) -> int:
        """The one that this person writes to directly: 1 and 2, 3 and 4, …"""
        return number + 1 if number % 2 else number - 1

    def group(self, number: int, size: int) -> str:
        """This person's group of about `size`: its name, and a target of messages."""
        return f"g{size}-{(number - 1) // size}"

    def home(self, number: int) -> str:
        """Where this person lives: a target of broadcasts."""
        return f"v{(number - 1) // _VILLAGE_SIZE}"

    def homes(self) -> list[str]:
        """All villages."""
        return [f"v{index}" for index in range(-(-self.size // _VILLAGE_SIZE))]

    def recipients(self, target: str, sender: int) -> int:
        """The mask of those who should get what `sender` wrote to `target`: `d`, a group or a village."""
        if target == "d":
            return 1 << self.partner(sender) - 1
        return self._living(target) & ~(1 << sender - 1)

    def name(self, target: str) -> str:
        """The id that the cluster knows a group or a village by."""
        return f"{PREFIX}{target}"

    def document(self) -> dict[str, Any]:
        """All users and groups, as `talowa import` takes them."""
        users = [
            {
                "id": self.person(number),
                "name": f"Person {number}",
                "role": "coordinator" if number <= COORDINATORS else "member",
                "location": {"villageId": self.name(self.home(number))},
            }
            for number in range(1, self.size + 1)
        ]
        groups = [
            {"id": self.name(f"g{size}-{index}"), "members": [self.person(n) for n in range(first, last + 1)]}
            for size in GROUP_SIZES
            for index in range(-(-self.size // size))
            for first, last in [self._span(size, index)]
        ]
        return {"users": users, "groups": groups}

    def _living(self, target: str) -> int:
        size, index = _parts(target)
        first, last = self._span(size, index)
        return (1 << last) - (1 << first - 1)

    def _span(self, size: int, index: int) -> tuple[int, int]:
        return index * size + 1, min((index + 1) * size, self.size)


def kind(target: str) -> str:
    """What a message to `target` is called in a report."""
    if target == "d":
        return "direct"
    return "broadcast" if target.startswith("v") else f"group of {_parts(target)[0]}"


def village_for(people: int, shares: int) -> Village:
    """The smallest village in which each of `shares` workers finds as many as any other, `people` in all."""
    each = -(-people // shares)
    return Village(each * shares + each * shares % 2)


def share(village: Village, index: int, shares: int) -> list[int]:
    """The people that worker `index` of `shares` plays; the first may warn, as a coordinator."""
    return list(range(index + 1, village.size + 1, shares))


def _parts(target: str) -> tuple[int, int]:
    size, _, index = target[1:].partition("-")
    return (int(size), int(index)) if index else (_VILLAGE_SIZE, int(size))


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(Village(int(sys.argv[1])).document()))
