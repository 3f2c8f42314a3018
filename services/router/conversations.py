"""Who is in a conversation, and what its members have of it: documents and receipts at hand."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from libs.wire import names, payloads
from services.router import permission
from services.router.anonymity import Anonymity, Author
from services.router.partition import Partition
from services.router.people import People
from services.router.store import Message, Receipt, Store, StoreAway


class Conversations:
    """Looks up participants and receipts. Methods raise `StoreAway` for what was never known."""

    def __init__(self, store: Store, people: People, counted_members: int, anonymity: Anonymity | None = None) -> None:
        self._store = store
        self._people = people
        self._counted_members = counted_members
        self.anonymity = anonymity

    async def participants(self, conversation_id: str) -> frozenset[str]:
        """Everyone in a conversation."""
        pair = names.direct_pair(conversation_id)
        if pair is not None:
            return frozenset(pair)
        group_id = names.group_of(conversation_id) or ""
        await self._people.load((), (group_id,))
        group = self._people.group(group_id)
        return group.members if group is not None else frozenset()

    def members_at_hand(self, conversation_id: str) -> Collection[str] | None:
        """Everyone in a conversation, if that is known, and few enough for their receipts to be counted."""
        members: Collection[str] | None = names.direct_pair(conversation_id)
        if members is None:
            with suppress(StoreAway):
                group = self._people.group(names.group_of(conversation_id) or "")
                members = group.members if group is not None else None
        return members if members is not None and len(members) <= self._counted_members else None

    async def check_participant(self, user_id: str, conversation_id: str) -> None:
        """May this user read this conversation? Raises `Refusal`."""
        group_id = names.group_of(conversation_id)
        if group_id is not None:
            await self._people.load((), (group_id,))
        group = self._people.group(group_id) if group_id is not None else None
        permission.check_participant(user_id, conversation_id, group)

    async def standing(self, user_id: str, conversation_id: str) -> str:
        """Who this user is to the others in a conversation that they may read. Raises `Refusal`."""
        standing = self.anonymity.standing(user_id, conversation_id) if self.anonymity is not None else user_id
        if standing == user_id:
            await self.check_participant(user_id, conversation_id)
        return standing

    def author(self, message: Message) -> Author | None:
        """Whom to tell of a message; None for an anonymous one whose key was retired."""
        if not message.is_anonymous:
            return Author(message.sender_id, message.client_id, message.client_message_id)
        return self.anonymity.author(message) if self.anonymity is not None else None

    async def resolve(self, bare_id: str | None) -> str | None:
        """The group conversation a bare id means, when it is no user's."""
        if bare_id is None:
            return None
        await self._people.load((bare_id,), (bare_id,))
        if self._people.user(bare_id) is None and self._people.group(bare_id) is not None:
            return names.group(bare_id)
        return None

    async def load_receipts(self, partition: Partition, conversation_id: str, users: Iterable[str]) -> None:
        """Have these members' receipts in the partition's book."""
        missing = partition.receipts.missing(conversation_id, users)
        if missing:
            found = await self._store.receipts(conversation_id, missing)
            partition.receipts.learn(conversation_id, missing, found)

    async def prepare(self, asked: Iterable[tuple[Partition, str, Collection[str]]]) -> None:
        """Have what confirmations of these users in these conversations will ask for: one question for a whole batch.

        What the store cannot say now is asked for again, one by one.
        """
        groups = {group_id for _, where, _ in asked if (group_id := names.group_of(where)) is not None}
        if groups:
            await self._people.load((), groups)
        missing: dict[tuple[str, str], Partition] = {}
        for partition, where, user_ids in asked:
            known = partition.receipts.known(where)
            for user_id in self._concerned(where, user_ids):
                if user_id not in known:
                    missing[where, user_id] = partition
        if missing:
            with suppress(StoreAway):
                found = await self._store.receipts_of(list(missing))
                for (where, user_id), partition in missing.items():
                    partition.receipts.learn(where, (user_id,), _own(found, where, user_id))

    def _concerned(self, conversation_id: str, user_ids: Collection[str]) -> Collection[str]:
        """Whose receipts a confirmation needs: of who confirms, and of all whose receipts are counted."""
        return self.members_at_hand(conversation_id) or user_ids

    async def counted(self, partition: Partition, conversation_id: str, *senders: str) -> frozenset[str]:
        """The others, besides the sender by all their names, whose receipts are counted; nobody in a large group."""
        others = (await self.participants(conversation_id)).difference(senders)
        if len(others) >= self._counted_members:
            return frozenset()
        await self.load_receipts(partition, conversation_id, others)
        return others

    def status(self, partition: Partition, message: Message, others: Iterable[str]) -> str:
        """How far a message has come: queued, sent, delivered to or read by anyone."""
        return self.progress(partition, message, others)[0]

    def progress(
        self, partition: Partition, message: Message, others: Iterable[str]
    ) -> tuple[str, payloads.Recipients]:
        """How far a message has come, and how many of the others have it, and have read it."""
        book, seq = partition.receipts, message.seq
        page = book.known(message.conversation_id)
        total = delivered = read = 0
        for other in others:
            receipt = page.get(other) or book.receipt(message.conversation_id, other)
            total += 1
            delivered += receipt.has(seq)
            read += receipt.read >= seq
        status = "read" if read else "delivered" if delivered else None
        if status is None:
            status = "queued" if message.key in partition.unsaved else "sent"
        return status, payloads.Recipients(total, delivered, read)


def _own(found: Mapping[tuple[str, str], Receipt], conversation_id: str, user_id: str) -> dict[str, Receipt]:
    receipt = found.get((conversation_id, user_id))
    return {} if receipt is None else {user_id: receipt}
