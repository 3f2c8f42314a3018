"""What is done and not yet acknowledged: under load the acknowledgements of several batches go together.

Only what has been published is owed, so an acknowledgement may travel with whatever comes next. Until it does, its
frames stay on the stream, and who takes over finds them done.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any, Final

from libs.broker import Broker, Call, type_of_command
from services.router.batch import Work
from services.router.partition import Partition
from services.router.store import Message, ReceiptRow

# For this long acknowledgements gather: a script a partition for two batches or three, and not for each.
SETTLE_S: Final = 0.05


class _Due:
    """What is owed to one partition."""

    __slots__ = ("batches", "placed", "receipts", "up_to")

    def __init__(self) -> None:
        self.up_to = ""
        self.batches = 0
        self.placed: list[Message] = []
        self.receipts: dict[tuple[str, str], ReceiptRow] = {}


class Owed:
    """Acknowledgements that wait for company."""

    def __init__(self) -> None:
        self._partitions: dict[Partition, _Due] = {}
        self._since = math.inf
        self._settling = asyncio.Lock()

    def __bool__(self) -> bool:
        return bool(self._partitions)

    @property
    def is_due(self) -> bool:
        """Whether it has waited long enough."""
        return time.monotonic() >= self._since + SETTLE_S

    def add(self, works: Sequence[Work]) -> None:
        """These are published. Until they are acknowledged they are under way."""
        if not self._partitions:
            self._since = time.monotonic()
        for work in works:
            due = self._partitions.setdefault(work.partition, _Due())
            due.up_to = work.last_id
            due.batches += 1
            due.placed += [verdict.message for verdict in work.verdicts if verdict.message is not None]
            for row in work.partition.receipts.take_unjournaled():
                due.receipts[row.conversation_id, row.user_id] = row
            work.partition.under_way += 1

    async def settle(self, broker: Broker, behind: Sequence[type_of_command] = ()) -> list[Any]:
        """Acknowledge all, in one round trip behind other commands, whose replies it gives. Raises `AWAY`.

        One after the other, for an older receipt must not come to the journal after a newer one.
        """
        async with self._settling:
            owed, self._partitions = self._partitions, {}
            calls = [_call(partition, due) for partition, due in owed.items()]
            try:
                replies = await broker.scripts(calls, behind=behind)
            except BaseException:
                for partition in owed:
                    partition.is_lost = True  # it starts over, and its stream is read from the beginning
                raise
            for (partition, due), reply in zip(owed.items(), replies[len(behind) :], strict=True):
                partition.under_way -= due.batches
                for message in due.placed:
                    partition.saved.pop(message.key, None)
                if reply is None:
                    partition.is_lost = True
            return replies[: len(behind)]


def _call(partition: Partition, due: _Due) -> Call:
    line = partition.notes.take_settled() if partition.notes is not None else b""
    return partition.acknowledge(due.up_to, due.placed, list(due.receipts.values()), line=line)
