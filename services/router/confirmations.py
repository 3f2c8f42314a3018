"""Confirmations: devices have messages, or their users have read them, and senders are told.

There is one for each message and recipient, so this is the busiest path but for messages themselves. Nearly always
all is at hand that it takes (`answer_nowait`); the rest may ask the store.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress

from libs.clock import now_ms
from libs.wire import names, payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Confirm, Confirms
from services.router import answers, bodies, records
from services.router.anonymity import Author
from services.router.conversations import Conversations
from services.router.partition import Partition
from services.router.receipts import Change
from services.router.routing import Saying, ToUsers
from services.router.store import End, Message, Store, StoreAway


class Confirmations:
    """Takes note of what members have, and says what follows."""

    def __init__(self, store: Store, conversations: Conversations) -> None:
        self._store = store
        self._conversations = conversations

    def answer_nowait(self, partition: Partition, frame: Confirm | Confirms) -> Sequence[Saying] | None:
        """What is said to the confirmation of the next message, with all at hand as it nearly always is.

        Else None, and nothing was noted: `answer` finds out the rest.
        """
        match frame:
            case Confirms(seq=seq, user_ids=user_ids):
                pass
            case Confirm(seqs=(seq,), user_id=user_id, up_to=0, message_id=None, read=False, event=None, bare_id=None):
                user_ids = (user_id,)
            case _:
                return None
        where, book = frame.conversation_id, partition.receipts
        message, members = book.message(where, seq), self._conversations.members_at_hand(where)
        author = self._conversations.author(message) if message is not None else None
        if message is None or author is None or author.is_hidden or members is None:
            return None
        page = book.known(where)
        confirming = [user_id for user_id in user_ids if user_id in members]
        others = [user_id for user_id in members if user_id != message.sender_id]
        if not confirming or not all(map(page.__contains__, others)) or not book.is_next(where, confirming, seq):
            return None
        book.deliver(where, confirming, seq)
        _note(partition, message, confirming, frame)
        if message.key in partition.unsaved or confirming == [message.sender_id]:
            return ()
        status, counts = self._conversations.progress(partition, message, others)
        return [_say_status(partition, message, author, status, counts)]

    async def answer(self, partition: Partition, frame: Confirm | Confirms) -> Sequence[Saying]:
        """What is said to a confirmation. Raises `Refusal`, `StoreAway`."""
        if names.broadcast_of(frame.conversation_id) is not None:
            for user_id in frame.user_ids if isinstance(frame, Confirms) else (frame.user_id,):
                partition.receipts.confirm_broadcast(frame.conversation_id, user_id)
            return []
        match frame:
            case Confirms():
                standing = await self._standing(frame.conversation_id, frame.user_ids)
                return await self._deliver(partition, frame, frame.seq, standing)
            case Confirm(seqs=(seq,), up_to=0, message_id=None, read=False, event=None):
                user_id = await self._conversations.standing(frame.user_id, frame.conversation_id)
                return await self._deliver(partition, frame, seq, [user_id])
            case _:
                return await self._confirm(partition, frame)

    async def is_meant(self, partition: Partition, frame: Confirm | Confirms) -> bool:
        """Whether what was queued is what stands there, as far as can be known, and was not lost with the broker."""
        where, seqs = frame.conversation_id, (frame.seq,) if isinstance(frame, Confirms) else frame.seqs
        messages = [message for seq in seqs if (message := partition.receipts.message(where, seq)) is not None]
        if not messages:
            with suppress(StoreAway):
                messages = await self._store.at(where, seqs)
        return all(records.mark(message) == frame.mark for message in messages)

    async def _confirm(self, partition: Partition, frame: Confirm) -> Sequence[Saying]:
        conversation_id, seqs, up_to = frame.conversation_id, frame.seqs, frame.up_to
        if frame.message_id is not None:
            message = await self._named(partition, frame.message_id)
            conversation_id, seqs = message.conversation_id, (message.seq,)
        user_id = await self._conversations.standing(frame.user_id, conversation_id)
        if frame.message_id is None:
            seqs = tuple([seq for seq in seqs if await self._is_there(partition, conversation_id, seq)])
        if up_to:
            up_to = min(up_to, await self._highest_seq(partition, conversation_id))
        with suppress(StoreAway):  # receipts merge: what is noted now joins the rest when the store is back
            await self._conversations.load_receipts(partition, conversation_id, (user_id,))
            seqs += await self._unconfirmable(partition, conversation_id, user_id, seqs)
        change = partition.receipts.confirm(conversation_id, user_id, seqs=seqs, up_to=up_to, read=frame.read)
        sayings = await self._say_change(partition, frame, change) if change is not None else []
        if frame.event is not None and frame.read:
            body = payloads.MessageReadConfirmed(frame.message_id, conversation_id, max(up_to, *seqs, 0))
            emit = ("message_read_confirmed", payloads.encode(body))
            sayings.append(answers.accepted(partition.number, frame.origin, body, emit))
        elif frame.event is not None:
            sayings.append(answers.accepted(partition.number, frame.origin, payloads.Ok()))
        return sayings

    async def _deliver(
        self, partition: Partition, frame: Confirm | Confirms, seq: int, user_ids: Collection[str]
    ) -> Sequence[Saying]:
        """Devices of these users acknowledged one message: one pass, and one status for who wrote it."""
        book, where = partition.receipts, frame.conversation_id
        if not await self._is_there(partition, where, seq):
            return []
        with suppress(StoreAway):  # receipts merge: what is noted now joins the rest when the store is back
            await self._conversations.load_receipts(partition, where, user_ids)
            for user_id in user_ids:
                if book.receipt(where, user_id).delivered < seq - 1:
                    passed = await self._unconfirmable(partition, where, user_id, (seq,))
                    if passed:
                        book.confirm(where, user_id, seqs=passed)
        news = book.deliver(where, user_ids, seq)
        sayings: list[Saying] = []
        for message in await self._messages_at(partition, where, news):
            _note(partition, message, news[message.seq], frame)
            saying = await self._say_delivered(partition, message, news[message.seq])
            if saying is not None:
                sayings.append(saying)
        return sayings

    async def _standing(self, conversation_id: str, user_ids: Collection[str]) -> list[str]:
        """Those of these users who may confirm what is in a conversation, as they stand there."""
        if names.is_pseudonymous(conversation_id):
            standing: list[str] = []
            for user_id in user_ids:
                with suppress(Refusal):
                    standing.append(await self._conversations.standing(user_id, conversation_id))
            return standing
        members = await self._conversations.participants(conversation_id)
        return [user_id for user_id in user_ids if user_id in members]

    async def _say_delivered(self, partition: Partition, message: Message, user_ids: Collection[str]) -> Saying | None:
        """What the sender of a message hears of these users having it; nothing if it is no news."""
        if message.key in partition.unsaved:
            return None  # first it is `sent`; how far it has come is said with that
        author = self._conversations.author(message)
        if author is None or all(user_id in (message.sender_id, author.user_id) for user_id in user_ids):
            return None
        senders = (message.sender_id, author.user_id)
        others = await self._conversations.counted(partition, message.conversation_id, *senders)
        counts: payloads.Recipients | None = None
        if others:
            status, counts = self._conversations.progress(partition, message, others)
        elif self._is_news(partition, message, {*user_ids, *senders}, is_read=False):
            status = "delivered"
        else:
            return None
        return _say_status(partition, message, author, status, counts)

    async def _unconfirmable(
        self, partition: Partition, conversation_id: str, user_id: str, seqs: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Places before `seqs` that nobody confirms: void ones, and own messages that are not at hand any more."""
        last_saved = partition.last_seq(conversation_id)
        if last_saved is None:
            end = (await self._store.ends([conversation_id])).get(conversation_id, End())
            partition.note_end(conversation_id, end.seq, end.server_time_ms)
            last_saved = end.seq
        blanks = partition.receipts.blanks(conversation_id, user_id, seqs, last_saved)
        if not blanks:
            return ()
        found = {message.seq: message for message in await self._store.at(conversation_id, blanks)}
        for message in found.values():
            partition.receipts.remember(message)
        return tuple(seq for seq in blanks if seq not in found or found[seq].sender_id == user_id)

    async def _named(self, partition: Partition, message_id: str) -> Message:
        key = names.key_of(message_id) or ""
        message = partition.unsaved.get(key) or (await self._store.find([key])).get(key)
        if message is None:
            raise Refusal(Code.ACCESS_DENIED)
        return message

    async def _is_there(self, partition: Partition, conversation_id: str, seq: int) -> bool:
        """Whether a conversation goes so far, as far as can be known.

        A message that was lost with a wiped broker is confirmed as well. Its seq will be another's, who is to stay due.
        """
        if partition.receipts.message(conversation_id, seq) is not None:
            return True
        try:
            return seq <= await self._highest_seq(partition, conversation_id)
        except StoreAway:
            return False

    async def _highest_seq(self, partition: Partition, conversation_id: str) -> int:
        """A watermark beyond it would confirm messages that are still to be written."""
        unsaved = [m.seq for m in partition.unsaved.values() if m.conversation_id == conversation_id]
        known = partition.last_seq(conversation_id)
        if known is None:
            end = (await self._store.ends([conversation_id])).get(conversation_id, End())
            partition.note_end(conversation_id, end.seq, end.server_time_ms)
            known = end.seq
        return max(known, *unsaved, 0)

    async def _say_change(self, partition: Partition, frame: Confirm, change: Change) -> list[Saying]:
        """The statuses that follow from a receipt, to the senders; and to the reader's other devices."""
        sayings: list[Saying] = []
        newest_read: dict[str, tuple[Author, Message]] = {}
        for message in await self._messages_of(partition, change):
            if message.seq in change.delivered:
                _note(partition, message, (change.user_id,), frame)
            if message.key in partition.unsaved:
                continue  # first it is `sent`; how far it has come is said with that
            author = self._conversations.author(message)
            if author is None or author.user_id == change.user_id:
                continue
            is_read = message.seq in change.read
            senders = (message.sender_id, author.user_id)
            others = await self._conversations.counted(partition, message.conversation_id, *senders)
            if others:
                status, counts = self._conversations.progress(partition, message, others)
            elif self._is_news(partition, message, (change.user_id, *senders), is_read=is_read):
                status, counts = ("read" if is_read else "delivered"), None
            else:
                continue
            sayings.append(_say_status(partition, message, author, status, counts))
            if is_read:
                newest_read[message.sender_id] = author, message
        return sayings + _say_read(partition.number, frame, newest_read)

    async def _messages_of(self, partition: Partition, change: Change) -> list[Message]:
        """The messages a change is about that others wrote, in order."""
        messages = await self._messages_at(partition, change.conversation_id, {*change.delivered, *change.read})
        return [message for message in messages if message.sender_id != change.user_id]

    async def _messages_at(self, partition: Partition, conversation_id: str, seqs: Collection[int]) -> list[Message]:
        """The messages at these places, in order."""
        at_hand = (partition.receipts.message(conversation_id, seq) for seq in seqs)
        messages = [message for message in at_hand if message is not None]
        if len(messages) < len(seqs):
            unknown = set(seqs).difference(message.seq for message in messages)
            with suppress(StoreAway):  # their senders see it when they look at the history
                messages += await self._store.at(conversation_id, unknown)
        return sorted(messages, key=lambda message: message.seq)

    def _is_news(self, partition: Partition, message: Message, but: Collection[str], *, is_read: bool) -> bool:
        """In a group too large to count, the first member who has (or has read) a message is news."""
        return not any(
            receipt.read >= message.seq if is_read else receipt.has(message.seq)
            for user, receipt in partition.receipts.known(message.conversation_id).items()
            if user not in but
        )


def _note(partition: Partition, message: Message, user_ids: Sequence[str], frame: Confirm | Confirms) -> None:
    """For the ledger: who has a message now."""
    if partition.notes is not None:
        partition.notes.confirmed(message, user_ids, frame.origin.gateway, frame.at_ms)


def _say_status(
    partition: Partition, message: Message, author: Author, status: str, counts: payloads.Recipients | None
) -> Saying:
    body = bodies.delivery_status(message, author, status, now_ms(), counts)
    return answers.to_author(partition.number, author, "message_delivery_status", body)


def _say_read(number: int, frame: Confirm, newest: dict[str, tuple[Author, Message]]) -> list[Saying]:
    """`message_read` to each sender about their newest message read, and to the reader's other devices."""
    if not newest:
        return []
    sayings: list[Saying] = [
        answers.to_author(number, author, "message_read", _message_read(message, frame))
        for author, message in newest.values()
    ]
    top = max((message for _, message in newest.values()), key=lambda message: message.seq)
    sayings.append(
        ToUsers(number, (frame.user_id,), "message_read", _message_read(top, frame), skip_session=frame.origin.session)
    )
    return sayings


def _message_read(message: Message, frame: Confirm) -> bytes:
    read_at = frame.at_ms or now_ms()
    return payloads.encode(
        payloads.MessageRead(message.id, message.conversation_id, message.seq, frame.user_id, read_at)
    )
