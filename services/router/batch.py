"""A batch on its way through a router: the frames of several partitions, and what was decided about them."""

from collections.abc import Collection, Sequence

from libs.clock import now_ms
from libs.wire.codes import Refusal
from libs.wire.frames import Canary, Inbound, Send
from services.router.ledger import UNCOUNTED
from services.router.partition import Partition
from services.router.store import Message


class Verdict:
    """What became of one `Send`: `message` if it has a place, else `refusal`."""

    __slots__ = (
        "forwarded",
        "is_new",
        "is_queued",
        "is_recent",
        "key",
        "members",
        "message",
        "refusal",
        "send",
        "told",
        "was_placed",
    )

    def __init__(self, send: Send, key: str | None) -> None:
        self.send = send
        # None for one that goes on to another partition, or nowhere.
        self.key = key
        self.message: Message | None = None
        self.refusal: Refusal | None = None
        self.is_new = False
        # Known only by its place: it was saved a while ago, and the store cannot be asked now.
        self.is_recent = False
        # Said as `queued`: its `sent` is owed, whatever the store makes of it.
        self.is_queued = False
        self.forwarded: Send | None = None
        # It had its place before this batch: its sender may have heard of it, or not.
        self.was_placed = False
        # The members of its group when it was given its place, and to how many users it was said then.
        self.members: Collection[str] | None = None
        self.told = UNCOUNTED

    @property
    def may_be_new(self) -> bool:
        """Whether it will have a place of its own here, unless it was sent before."""
        return self.message is None and self.refusal is None and self.forwarded is None


class Work:
    """The frames of one partition in a batch, and what was decided about them."""

    __slots__ = (
        "frames",
        "is_replay",
        "last_id",
        "partition",
        "published_ms",
        "read_ms",
        "refusals",
        "saved_ms",
        "verdicts",
    )

    def __init__(
        self, partition: Partition, frames: Sequence[Inbound], last_id: str, *, is_replay: bool = False
    ) -> None:
        self.partition = partition
        self.frames = frames
        self.last_id = last_id
        self.is_replay = is_replay
        self.verdicts: list[Verdict] = []
        # Broadcasts that are refused, by id.
        self.refusals: dict[str, Refusal] = {}
        # When it was at its stations; 0 before.
        self.read_ms = now_ms()
        self.saved_ms = self.published_ms = 0

    @property
    def new_messages(self) -> list[Message]:
        """The messages that are to be saved, in order."""
        return [verdict.message for verdict in self.verdicts if verdict.is_new and verdict.message is not None]


def parked(before: Sequence[Work], works: Sequence[Work]) -> list[Work]:
    """What waits for the store, in order, with what comes to it.

    Canaries were answered and wait for nothing: in a long outage they would come to fill the room for messages. But
    what is behind others on its stream is acknowledged after them, so the last of a partition takes on how far it goes.
    """
    last = {work.partition: work for work in before}
    found = list(before)
    for work in works:
        work.frames = [frame for frame in work.frames if not isinstance(frame, Canary)]
        if not work.frames and work.partition in last:
            last[work.partition].last_id = work.last_id
        else:
            last[work.partition] = work
            found.append(work)
    return found
