"""The books: what was answered as sent, who got it, and who is here. Pure.

Each worker keeps a `Ledger` and hands its entries to the master every few seconds (`take`); the master adds them up
(`add`) and judges: whatever was answered as sent must have come to everyone it was for who is here in the end, live or
as `offline_messages`. People are bits of a mask (`village`).
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from loadtests.people.letters import Letter
from loadtests.people.village import Village

_SHOWN: Final = 10


class Verdict(Struct, frozen=True):
    """What the books say in the end. `owed` and `lost` count a message once for each recipient who is here."""

    sent: int
    owed: int
    lost: int
    unanswered: int
    again: int
    absent: int
    examples: list[str]

    @property
    def is_good(self) -> bool:
        """Something was sent, everyone is here, and everything that was answered has come to all of them."""
        return self.sent > 0 and not self.lost and not self.absent


class Ledger:
    """One worker's books, or the sum of all of them."""

    def __init__(self) -> None:
        self._sent: list[str] = []
        self._arrived: dict[str, int] = {}
        self.here = 0
        self.again = 0
        self.unanswered = 0

    # -- of a worker --

    def sent(self, key: str) -> None:
        """The server has answered that it has this message."""
        self._sent.append(key)

    def arrived(self, key: str, number: int) -> None:
        """Person `number` has got it."""
        self._arrived[key] = self._arrived.get(key, 0) | 1 << number - 1

    def came(self, number: int) -> None:
        """Person `number` is signed in."""
        self.here |= 1 << number - 1

    def went(self, number: int) -> None:
        """Person `number` is not."""
        self.here &= ~(1 << number - 1)

    def take(self) -> dict[str, Any]:
        """What is new since it was last asked for, in a form that crosses processes."""
        entries = {
            "sent": self._sent,
            "arrived": {key: _bytes(mask) for key, mask in self._arrived.items()},
            "here": _bytes(self.here),
            "again": self.again,
            "unanswered": self.unanswered,
        }
        self._sent, self._arrived, self.again = [], {}, 0
        return entries


class Books:
    """The sum of all workers' ledgers."""

    def __init__(self, village: Village) -> None:
        self._village = village
        self._sent: dict[str, int] = {}
        self._arrived: dict[str, int] = {}
        self._here: dict[str, int] = {}
        self._unanswered: dict[str, int] = {}
        self._ever = 0
        self._closed = 0
        self._owed = 0
        self._again = 0

    def add(self, worker: str, entries: dict[str, Any]) -> None:
        """Enter what a worker has taken from its ledger."""
        for key in entries["sent"]:
            letter = Letter.read(key)
            if letter is not None:
                self._sent[key] = self._village.recipients(letter.target, letter.sender)
        for key, mask in entries["arrived"].items():
            self._arrived[key] = self._arrived.get(key, 0) | int.from_bytes(mask, "little")
        self._here[worker] = int.from_bytes(entries["here"], "little")
        self._ever |= self._here[worker]
        self._unanswered[worker] = entries["unanswered"]
        self._again += entries["again"]

    @property
    def sent(self) -> int:
        """Messages that were answered."""
        return self._closed + len(self._sent)

    def close(self) -> None:
        """Forget the messages that everybody has who was ever here. To be called once all have come."""
        done = [key for key, to in self._sent.items() if not to & self._ever & ~self._arrived.get(key, 0)]
        for key in done:
            self._owed += (self._sent.pop(key) & self._ever).bit_count()
            self._arrived.pop(key, None)
        self._closed += len(done)

    def is_settled(self, people: int) -> bool:
        """Whether nothing is open any more: all answered, all arrived, and `people` here."""
        return self.judge(people).is_good and not sum(self._unanswered.values())

    def judge(self, people: int) -> Verdict:
        """What the books say, if the test is over now and `people` should be here."""
        here = self._all_here()
        lost = {key: (to & here & ~self._arrived.get(key, 0)).bit_count() for key, to in self._sent.items()}
        missed = [key for key, count in lost.items() if count]
        return Verdict(
            sent=self.sent,
            owed=self._owed + sum((to & here).bit_count() for to in self._sent.values()),
            lost=sum(lost.values()),
            unanswered=sum(self._unanswered.values()),
            again=self._again,
            absent=max(0, people - here.bit_count()),
            examples=[f"{key} to {lost[key]}" for key in missed[:_SHOWN]],
        )

    def _all_here(self) -> int:
        return _union(self._here.values())


def _union(masks: Iterable[int]) -> int:
    everyone = 0
    for mask in masks:
        everyone |= mask
    return everyone


def _bytes(mask: int) -> bytes:
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")
