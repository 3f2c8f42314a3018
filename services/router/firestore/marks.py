"""What a conversation's document says of its log, with few writes: how far it goes, or that it may go further.

A document bears a write a second, a conversation many messages. So the document is *open* while messages come: it
says "there may be more than `lastSeq`", and whoever looks for what is due looks into the log. Once it is quiet, it
is *closed*: `lastSeq` is exact, and whoever has all up to it needs no look.

It is also what keeps a place from being given twice. Every commit of messages is conditional on the version of the
document in which this process left it: one that is open is only compared, one that is closed is written. So a process
that knows the last place of a log under that version knows which are free, as long as its commits come through; whoever
else wants to save has to write the document first (to *take* it, where it is open), and ends that. A process that dies
leaves its documents open: that costs looks, and no message.
"""

import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from libs.storage.firestore import values
from libs.storage.firestore.values import Stamp
from libs.wire import names

CLOSE_AFTER_S: Final = 15.0
# An exact `lastSeq` is written with each message of a conversation that is quieter than this.
_QUIET_S: Final = 10.0
_REMEMBERED: Final = 200_000


class _Mark:
    __slots__ = ("is_open", "last_seq", "saved_at", "version", "written_at")

    def __init__(self, version: Stamp | None, last_seq: int, saved_at: float, *, is_open: bool) -> None:
        self.version = version  # None: there is no document
        self.last_seq = last_seq
        self.saved_at = saved_at
        self.is_open = is_open
        self.written_at = -math.inf


class Marks:
    """The documents of conversations as this process left them."""

    def __init__(self, name: Callable[[str], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        # Whoever takes a document over changes it, whatever else it says: else it would keep its version.
        self._writer = secrets.token_hex(8)
        self._marks: OrderedDict[str, _Mark] = OrderedDict()
        # By when something was saved: those that may be closed. One that a commit or a closing is under way for is not.
        self._open: OrderedDict[str, None] = OrderedDict()
        self._leaving: dict[str, _Mark] = {}

    def unknown(self, conversation_ids: Iterable[str]) -> list[str]:
        """Those of which this process does not know how their documents stand."""
        return [where for where in conversation_ids if where not in self._marks]

    def stands(self, conversation_id: str, version: Stamp | None) -> bool:
        """Whether this version of a document is the one that this process knows."""
        mark = self._marks.get(conversation_id)
        return mark is not None and mark.version == version

    def last_seq(self, conversation_id: str) -> int:
        """The last place that is taken; all beyond it are free as long as the document stands as it does."""
        mark = self._marks.get(conversation_id)
        return 0 if mark is None else mark.last_seq

    def met(self, conversation_id: str, version: Stamp | None, last_seq: int, *, is_open: bool = False) -> None:
        """A document was read, and is closed or not there; or was taken, and the log was looked at after that."""
        self._marks[conversation_id] = _Mark(version, last_seq, self._clock(), is_open=is_open)
        self._open.pop(conversation_id, None)
        while len(self._marks) > _REMEMBERED:
            gone, _ = self._marks.popitem(last=False)
            self._open.pop(gone, None)

    def saw(self, conversation_id: str, seq: int) -> None:
        """A message stands there: perhaps by a commit of this process that came through and had no answer."""
        mark = self._marks.get(conversation_id)
        if mark is not None:
            mark.last_seq = max(mark.last_seq, seq)

    def take(self, conversation_id: str, version: Stamp) -> bytes:
        """The write that ends what others know of a document that is open."""
        return self._write(conversation_id, 0, version, is_open=True)

    def writes(self, last_seqs: Mapping[str, int]) -> tuple[dict[str, Stamp], dict[str, tuple[bytes, bool]]]:
        """What belongs into a commit that takes these conversations that far.

        Documents that are to stay in the version that is known, by full name, and writes of others, with whether each
        opens. All are known.
        """
        now = self._clock()
        unchanged: dict[str, Stamp] = {}
        found: dict[str, tuple[bytes, bool]] = {}
        for conversation_id, last_seq in last_seqs.items():
            mark = self._marks[conversation_id]
            self._open.pop(conversation_id, None)
            if mark.is_open and mark.version is not None:
                unchanged[self._name(conversation_id)] = mark.version
            else:
                is_open = now - mark.written_at < _QUIET_S
                found[conversation_id] = self._write(conversation_id, last_seq, mark.version, is_open=is_open), is_open
        return unchanged, found

    def wrote(self, last_seqs: Mapping[str, int], written: Mapping[str, tuple[bool, Stamp]]) -> None:
        """A commit came through: with it these documents, each open or not, in this version."""
        now = self._clock()
        for conversation_id, last_seq in last_seqs.items():
            mark = self._marks[conversation_id]
            mark.saved_at = now
            mark.last_seq = max(mark.last_seq, last_seq)
            if conversation_id in written:
                mark.is_open, mark.version = written[conversation_id]
                mark.written_at = now

    def release(self, conversation_ids: Iterable[str]) -> None:
        """No commit is under way for these any more: what is open may be closed once it is quiet."""
        for conversation_id in conversation_ids:
            mark = self._marks.get(conversation_id)
            if mark is None:
                continue
            self._marks.move_to_end(conversation_id)
            self._open.pop(conversation_id, None)
            if mark.is_open:
                self._open[conversation_id] = None

    def forget(self, conversation_ids: Iterable[str]) -> None:
        """Nobody knows how these documents stand: a commit had no answer, or somebody else wrote them."""
        for conversation_id in conversation_ids:
            self._marks.pop(conversation_id, None)
            self._open.pop(conversation_id, None)

    def idle(self, limit: int, *, is_end: bool = False) -> dict[str, bytes]:
        """Up to `limit` writes that close documents of conversations that are quiet; at the end of all that are open.

        Until it is known what became of it (`closed`), nothing is known of such a document: who saves reads it.
        """
        now = self._clock()
        found: dict[str, bytes] = {}
        for conversation_id in self._open:
            mark = self._marks[conversation_id]
            if len(found) >= limit or (not is_end and now - mark.saved_at < CLOSE_AFTER_S):
                break
            found[conversation_id] = self._write(conversation_id, mark.last_seq, mark.version, is_open=False)
        for conversation_id in found:
            self._leaving[conversation_id] = self._marks.pop(conversation_id)
            del self._open[conversation_id]
        return found

    def closed(self, versions: Mapping[str, Stamp | None], asked: Collection[str]) -> None:
        """What became of closing those asked about; None, or no version: nobody knows how they stand."""
        for conversation_id in asked:
            mark, version = self._leaving.pop(conversation_id, None), versions.get(conversation_id)
            if mark is not None and version is not None and conversation_id not in self._marks:
                mark.is_open, mark.version, mark.written_at = False, version, self._clock()
                self._marks[conversation_id] = mark

    def _write(self, conversation_id: str, last_seq: int, version: Stamp | None, *, is_open: bool) -> bytes:
        fields: dict[str, Any] = {
            "conversationId": conversation_id,
            "isOpen": is_open,
            "isUnsettled": True,
            "writer": self._writer,
        }
        fields |= members_of(conversation_id)
        return values.put(
            self._name(conversation_id),
            fields,
            only=tuple(fields),
            maximum={"lastSeq": last_seq},
            stamped=("lastAt",),
            if_version=version,
            if_there=False if version is None else None,
        )


def members_of(conversation_id: str) -> dict[str, Sequence[str]]:
    """Whom a direct conversation is of, as a field; a group's members are noted apart."""
    pair = names.direct_pair(conversation_id)
    return {} if pair is None else {"participantIds": pair}
