"""What a conversation's document says of its log, with few writes: how far it goes, or that it may go further.

A document bears a write a second, a conversation many messages. So the document is *open* while messages come: it
says "there may be more than `lastSeq`", and whoever looks for what is due looks into the log. Once it is quiet, it
is *closed*: `lastSeq` is exact, and whoever has all up to it needs no look.

A message may be saved without a word to the document only while this process knows that it is open: it opened it
itself, by a commit that came through, less than `BELIEF_S` ago. It closes none within `CLOSE_AFTER_S` of the first
time that it touched it, nor one that anybody has written since: whoever owned the conversation before believes
nothing any more by then. A process that dies leaves its documents open: that costs looks, and no message.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from libs.storage.firestore import values
from libs.storage.firestore.values import Stamp
from libs.wire import names

BELIEF_S: Final = 5.0
CLOSE_AFTER_S: Final = 15.0
# An exact `lastSeq` is written with each message of a conversation that is quieter than this.
_QUIET_S: Final = 10.0
_REMEMBERED: Final = 200_000


class _Mark:
    __slots__ = ("first_at", "is_open", "last_seq", "saved_at", "version", "written_at")

    def __init__(self, now: float) -> None:
        self.first_at = now
        self.written_at = now
        self.saved_at = now
        self.is_open = False
        self.last_seq = 0
        self.version: Stamp | None = None


class Marks:
    """The documents of conversations as this process left them."""

    def __init__(self, name: Callable[[str], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._marks: OrderedDict[str, _Mark] = OrderedDict()
        # By when they were opened: those that may have to be closed.
        self._open: OrderedDict[str, None] = OrderedDict()

    def writes(self, last_seqs: Mapping[str, int]) -> dict[str, tuple[bytes, bool]]:
        """The writes that belong into a commit that takes these conversations that far, and whether each opens."""
        now = self._clock()
        found: dict[str, tuple[bytes, bool]] = {}
        for conversation_id, last_seq in last_seqs.items():
            mark = self._marks.get(conversation_id)
            if mark is not None and mark.is_open and now - mark.written_at < BELIEF_S:
                continue
            is_open = (
                mark is None or mark.is_open or now - mark.first_at < CLOSE_AFTER_S or now - mark.written_at < _QUIET_S
            )
            found[conversation_id] = self._write(conversation_id, last_seq, is_open=is_open), is_open
        return found

    def wrote(self, last_seqs: Mapping[str, int], written: Mapping[str, tuple[bool, Stamp]]) -> None:
        """A commit came through: with it these documents, each open or not, in this version."""
        now = self._clock()
        for conversation_id, last_seq in last_seqs.items():
            mark = self._marks.get(conversation_id)
            if mark is None:
                mark = self._marks[conversation_id] = _Mark(now)
            self._marks.move_to_end(conversation_id)
            mark.saved_at = now
            mark.last_seq = max(mark.last_seq, last_seq)
            if conversation_id in written:
                mark.is_open, mark.version = written[conversation_id]
                mark.written_at = now
            if mark.is_open:
                self._open[conversation_id] = None
                self._open.move_to_end(conversation_id)
            else:
                self._open.pop(conversation_id, None)
        while len(self._marks) > _REMEMBERED:
            gone, _ = self._marks.popitem(last=False)
            self._open.pop(gone, None)

    def forget(self, conversation_ids: Iterable[str]) -> None:
        """Nobody knows how these documents stand: a commit had no answer, or somebody else wrote them."""
        for conversation_id in conversation_ids:
            self._marks.pop(conversation_id, None)
            self._open.pop(conversation_id, None)

    def idle(self, limit: int, *, is_end: bool = False) -> dict[str, bytes]:
        """Up to `limit` writes that close documents of conversations that are quiet; at the end of all that may be."""
        now = self._clock()
        found: dict[str, bytes] = {}
        for conversation_id in self._open:
            mark = self._marks[conversation_id]
            if len(found) >= limit or (not is_end and now - mark.saved_at < CLOSE_AFTER_S):
                break
            if now - mark.first_at >= CLOSE_AFTER_S:
                found[conversation_id] = self._write(
                    conversation_id, mark.last_seq, is_open=False, if_version=mark.version
                )
        return found

    def closed(self, conversation_id: str, version: Stamp | None) -> None:
        """What became of closing one; None: somebody else wrote it."""
        if version is None or conversation_id not in self._marks:
            self.forget([conversation_id])
            return
        mark = self._marks[conversation_id]
        mark.is_open, mark.version, mark.written_at = False, version, self._clock()
        self._open.pop(conversation_id, None)

    def _write(self, conversation_id: str, last_seq: int, *, is_open: bool, if_version: Stamp | None = None) -> bytes:
        fields: dict[str, Any] = {"conversationId": conversation_id, "isOpen": is_open, "isUnsettled": True}
        fields |= members_of(conversation_id)
        return values.put(
            self._name(conversation_id),
            fields,
            only=tuple(fields),
            maximum={"lastSeq": last_seq},
            stamped=("lastAt",),
            if_version=if_version,
        )


def members_of(conversation_id: str) -> dict[str, Sequence[str]]:
    """Whom a direct conversation is of, as a field; a group's members are noted apart."""
    pair = names.direct_pair(conversation_id)
    return {} if pair is None else {"participantIds": pair}
