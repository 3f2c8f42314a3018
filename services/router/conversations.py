"""Who is in a conversation, and what its members have of it: documents and receipts at hand."""

from collections.abc import Iterable

from libs.wire import names, payloads
from services.router import permission
from services.router.anonymity import Anonymity, Author
from services.router.partition import Partition
from services.router.people import People
from services.router.store import Message, Store


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

    async def counted(self, partition: Partition, conversation_id: str, *senders: str) -> frozenset[str]:
        """The others, besides the sender by all their names, whose receipts are counted; nobody in a large group."""
        others = (await self.participants(conversation_id)).difference(senders)
        if len(others) >= self._counted_members:
            return frozenset()
        await self.load_receipts(partition, conversation_id, others)
        return others

    def status(self, partition: Partition, message: Message, others: Iterable[str]) -> str:
        """How far a message has come: queued, sent, delivered to or read by anyone."""
        receipts = [partition.receipts.receipt(message.conversation_id, other) for other in others]
        if any(receipt.read >= message.seq for receipt in receipts):
            return "read"
        if any(receipt.has(message.seq) for receipt in receipts):
            return "delivered"
        return "queued" if message.key in partition.unsaved else "sent"

    def counts(self, partition: Partition, message: Message, others: Iterable[str]) -> payloads.Recipients:
        """How many of the others have a message, and have read it."""
        receipts = [partition.receipts.receipt(message.conversation_id, other) for other in others]
        return payloads.Recipients(
            total=len(receipts),
            delivered=sum(receipt.has(message.seq) for receipt in receipts),
            read=sum(receipt.read >= message.seq for receipt in receipts),
        )
