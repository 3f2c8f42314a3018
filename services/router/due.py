"""What someone away is owed: broadcasts, then pages of messages, emergencies first, then oldest first.

All pages of a walk are as of its first one: what was saved since then comes live, behind them. What is owed follows
from the conversations' logs and the receipts; nothing is copied per recipient. Receipts that are in the broker but not
yet in the store count: a phone that drops and returns at once is not sent again what it just confirmed.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from libs import keys
from libs.broker import Broker
from libs.wire import names, payloads
from libs.wire.frames import Due, DuePage, DuePosition
from services.router import bodies, receipts
from services.router.store import Message, Receipt, Store, position_of
from services.router.together import Together

# Broadcasts are read, and put on a page, this many at a time.
_BROADCASTS: Final = 32


class DuePages:
    """Reads pages of what is due."""

    def __init__(self, store: Store, broker: Broker, *, partitions: int, messages: int, bytes_: int) -> None:
        self._store = store
        self._due_to: Together[frozenset[str]] = Together(store.due_to)
        self._broker = broker
        self._partitions = partitions
        self._messages = messages
        self._bytes = bytes_

    async def page(self, asked: Due) -> DuePage:
        """The next page for one socket. Raises `StoreAway`, `libs.broker.AWAY`."""
        is_first = asked.position is None and asked.cursors is None
        if is_first and asked.user_id not in await self._due_to.about(asked.user_id):
            return DuePage(asked.origin.session, walk=asked.walk)  # as it is with most who come back
        budget = min(asked.budget_bytes or self._bytes, self._bytes)
        position = asked.position
        if position is None or position.rank < 0:
            alarms = await self._alarms(asked, budget)
            if alarms is not None:
                return alarms
            position = None
        taken: list[Message] = []
        rendered: list[msgspec.Raw] = []
        size = 0
        while True:
            owed = await self._store.due(asked.user_id, self._messages + 1, after=position, cursors=asked.cursors)
            journal = await self._journal(asked.user_id, {message.conversation_id for message, _ in owed.rows})
            for message, receipt in owed.rows:
                is_known = message.conversation_id in (asked.cursors or {})
                confirmed = receipt.merge(journal.get(message.conversation_id, Receipt()))
                if not is_known and confirmed.has(message.seq):
                    position = position_of(message, owed.as_of)
                    continue
                body = bodies.new_message(message)
                if len(taken) >= self._messages or (taken and size + len(body) > budget):
                    return self._page(asked, taken, rendered, position)
                position = position_of(message, owed.as_of)
                taken.append(message)
                rendered.append(msgspec.Raw(body))
                size += len(body)
            if len(owed.rows) <= self._messages:
                return self._page(asked, taken, rendered)

    def _page(
        self, asked: Due, taken: list[Message], rendered: list[msgspec.Raw], position: DuePosition | None = None
    ) -> DuePage:
        """A page of what was taken; another one follows from `position`."""
        has_more = position is not None
        cursors = dict(asked.cursors) if asked.cursors is not None else None
        confirms: dict[str, list[int]] = {}
        for message in taken:
            confirms.setdefault(message.conversation_id, []).append(message.seq)
            # Emergencies come first: what is before them in their conversation may be on a page to come.
            if cursors is not None and not has_more:
                cursors[message.conversation_id] = max(message.seq, cursors.get(message.conversation_id, 0))
        return DuePage(
            session=asked.origin.session,
            body=payloads.encode(
                payloads.OfflineMessages(rendered, has_more, cursors if cursors is not None else msgspec.UNSET)
            ),
            confirms=tuple((conversation_id, tuple(seqs)) for conversation_id, seqs in confirms.items()),
            position=position,
            cursors=asked.cursors,
            budget_bytes=asked.budget_bytes,
            walk=asked.walk,
        )

    async def _alarms(self, asked: Due, budget: int) -> DuePage | None:
        """The next broadcasts; None when messages are what comes next."""
        position = asked.position
        taken: list[tuple[str, bytes]] = []
        size = 0
        while not taken:
            rows = await self._store.due_broadcasts(asked.user_id, _BROADCASTS, after=position)
            if not rows:
                return None
            journal = await self._journal(asked.user_id, {names.broadcast(row.id) for row in rows})
            for row in rows:
                if taken and size + len(row.body) > budget:
                    break
                position = row.position
                if names.broadcast(row.id) not in journal:
                    taken.append((row.id, row.body))
                    size += len(row.body)
        return DuePage(
            session=asked.origin.session,
            position=position,
            cursors=asked.cursors,
            budget_bytes=asked.budget_bytes,
            walk=asked.walk,
            alarms=tuple(taken),
        )

    async def _journal(self, user_id: str, conversations: set[str]) -> Mapping[str, Receipt]:
        """The receipts of one user that the store may not have yet."""
        by_partition: dict[int, list[str]] = {}
        for conversation_id in conversations:
            by_partition.setdefault(names.partition_of(conversation_id, self._partitions), []).append(conversation_id)
        replies = await self._broker.batch(
            [
                ("HMGET", keys.receipts(partition), *(receipts.journal_field(c, user_id) for c in of_partition))
                for partition, of_partition in by_partition.items()
            ]
        )
        found: dict[str, Receipt] = {}
        for of_partition, reply in zip(by_partition.values(), replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            for conversation_id, packed in zip(of_partition, reply, strict=True):
                if packed is not None:
                    found[conversation_id] = receipts.unpack(packed)
        return found
