"""What is asked of a router besides sending: signing in, what is due, history, joining, receipts.

Each frame is answered, refused with a code, or (a receipt) taken note of.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from libs.broker import AWAY
from libs.clock import now_ms
from libs.wire import events, names, payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import (
    Broadcast,
    Confirm,
    Confirms,
    Due,
    DuePage,
    History,
    Join,
    Profile,
    PublishKeys,
    Revoke,
    SealedFrame,
    Search,
    SignedIn,
    SignedOut,
    SignIn,
    TakeKeys,
    Tally,
    Typing,
)
from services.router import answers, bodies, keys, search
from services.router.anonymity import Author
from services.router.conversations import Conversations
from services.router.due import DuePages
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.people import People
from services.router.receipts import Change
from services.router.routing import Saying, ToSeats, ToSession, ToUsers
from services.router.store import Message, Store, StoreAway, User
from services.router.typing_notices import TypingNotices

log = structlog.get_logger(__name__)

# A number this large is a time in milliseconds (1973 and later), a smaller one is a seq.
_SMALLEST_TIME_MS: Final = 100_000_000_000
_RETRY_AFTER_MS: Final = 1000
_SECOND_MS: Final = 1000


AboutConversation = Confirm | Confirms | History | Join | Typing
AboutUser = SignIn | Due | Search | PublishKeys | TakeKeys | Revoke
Request = AboutUser | AboutConversation | Broadcast | Tally | SealedFrame

# The event that a frame's refusal names; a receipt, a join and typing name their own.
_EVENT_OF: Final[dict[type[Request], str]] = {
    History: "get_conversation_history",
    Search: "search_messages",
    Broadcast: "emergency_broadcast",
    PublishKeys: "publish_keys",
    TakeKeys: "get_keys",
}


class Requests:
    """Answers requests, one frame at a time."""

    def __init__(
        self,
        store: Store,
        people: People,
        conversations: Conversations,
        pages: DuePages,
        metrics: RouterMetrics,
        typing: TypingNotices,
    ) -> None:
        self._store = store
        self._people = people
        self._conversations = conversations
        self._pages = pages
        self._typing = typing
        self._metrics = metrics

    async def answer(
        self, partition: Partition, frame: Request, *, is_replay: bool = False
    ) -> Sequence[Saying] | AboutConversation:
        """What is said to a frame; or the frame to pass on, for it is about a conversation elsewhere.

        Raises `libs.broker.AWAY`; the store's absence is said with `unavailable`.
        """
        try:
            match frame:
                case SignIn() | Due() | PublishKeys() | TakeKeys() | Search() | Revoke():
                    return await self._answer_user(partition, frame)
                case Confirm() | Confirms() | History() | Join() | Typing():
                    group = None if isinstance(frame, Confirms) else await self._conversations.resolve(frame.bare_id)
                    if group is not None and not isinstance(frame, Confirms):
                        return msgspec.structs.replace(frame, conversation_id=group, bare_id=None)
                    return await self._answer_participant(partition, frame, is_replay=is_replay)
                case SealedFrame():  # which no key of ours opened
                    is_offered = self._conversations.anonymity is not None
                    raise Refusal(Code.UNAVAILABLE if is_offered else Code.ANONYMOUS_UNAVAILABLE)
                case _:
                    raise Refusal(Code.UNKNOWN_EVENT)
        except StoreAway:
            return self._refuse(partition.number, frame, Refusal(Code.UNAVAILABLE))
        except Refusal as refusal:
            return self._refuse(partition.number, frame, refusal)
        except AWAY:
            raise
        except Exception as error:
            log.exception(
                "a request could not be answered",
                kind=type(frame).__name__,
                session=frame.origin.session,
                error=type(error).__name__,
            )
            return self._refuse(partition.number, frame, Refusal(Code.INTERNAL))

    def overloaded(self, partition: Partition, frame: Request) -> Sequence[Saying]:
        """What is said to a frame that cannot be answered soon enough."""
        return self._refuse(partition.number, frame, Refusal(Code.OVERLOADED, retry_after_ms=_RETRY_AFTER_MS))

    async def _answer_user(
        self, partition: Partition, frame: SignIn | Due | PublishKeys | TakeKeys | Search | Revoke
    ) -> Sequence[Saying]:
        match frame:
            case SignIn() | Due():
                said = await (self._sign_in(frame) if isinstance(frame, SignIn) else self._due(frame))
                return [answers.to_origin(partition.number, frame.origin, said)]
            case PublishKeys():
                return await keys.publish(self._store, partition.number, frame)
            case TakeKeys():
                return await keys.take(self._store, self._people, partition.number, frame)
            case Search():
                return await search.answer(self._store, self._conversations, partition.number, frame)
            case Revoke():
                return await self._revoke(partition, frame)

    async def _answer_participant(
        self, partition: Partition, frame: AboutConversation, *, is_replay: bool
    ) -> Sequence[Saying]:
        match frame:
            case Confirm() | Confirms():
                return await self._confirmed(partition, frame)
            case History():
                return await self._history(partition, frame)
            case Typing():
                return await self._typing.say(partition.number, frame, is_replay=is_replay)
            case Join():
                await self._conversations.standing(frame.user_id, frame.conversation_id)
                group_id = names.group_of(frame.conversation_id) or frame.conversation_id
                body = payloads.encode(payloads.GroupJoined(group_id))
                return [answers.accepted(partition.number, frame.origin, payloads.Ok(), ("group_joined", body))]

    async def _sign_in(self, frame: SignIn) -> SignedIn:
        user = await self._people.fresh_user(frame.user_id)
        code = _sign_in_refusal(user, frame.issued_at_ms)
        if user is None or code is not None:
            return SignedIn(frame.origin.session, frame.user_id, refusal=(code or Code.USER_NOT_FOUND).value)
        profile = Profile(user.id, user.name, frame.role_claim or user.role, user.places)
        return SignedIn(frame.origin.session, user.id, profile)

    async def _due(self, frame: Due) -> DuePage:
        """A page. Cursors may be under bare ids, which are read as everywhere: a user's, else a group's."""
        if frame.cursors is None:
            return await self._pages.page(frame)
        cursors: dict[str, int] = {}
        for place, seq in frame.cursors.items():
            conversation_id, bare_id = events.target(place, frame.user_id)
            cursors[await self._conversations.resolve(bare_id) or conversation_id] = seq
        page = await self._pages.page(msgspec.structs.replace(frame, cursors=cursors))
        return msgspec.structs.replace(page, cursors=frame.cursors)

    async def _revoke(self, partition: Partition, frame: Revoke) -> Sequence[Saying]:
        """Sign-ins before it on the stream are answered before the `SignedOut`; those of later batches find the store
        changed; one of the same batch, whatever it finds, is on a gateway that has the `SignedOut` by its seat.
        """
        # A token names the second of its sign-in: one from this very second counts as before.
        valid_after_ms = (frame.at_ms // _SECOND_MS + 1) * _SECOND_MS
        if not await self._store.revoke(frame.user_id, valid_after_ms):
            raise Refusal(Code.USER_NOT_FOUND)
        self._people.forget_user(frame.user_id)
        signed_out = SignedOut(frame.user_id, Code.TOKEN_REVOKED.value, valid_after_ms)
        body = payloads.Revoked(frame.user_id, valid_after_ms)
        return [
            ToSeats(partition.number, frame.user_id, signed_out),
            answers.accepted(partition.number, frame.origin, body),
        ]

    async def _history(self, partition: Partition, frame: History) -> Sequence[Saying]:
        conversation_id = frame.conversation_id
        standing = await self._conversations.standing(frame.user_id, conversation_id)
        is_time = frame.before is not None and frame.before >= _SMALLEST_TIME_MS
        messages = await self._store.history(
            conversation_id,
            frame.limit + 1,
            before_seq=None if is_time else frame.before,
            before_ms=frame.before if is_time else None,
            after_seq=frame.after,
        )
        has_more = len(messages) > frame.limit
        if has_more:
            messages = messages[: frame.limit] if frame.after is not None else messages[-frame.limit :]
        others = await self._conversations.counted(partition, conversation_id, standing)
        rendered = []
        origin = frame.origin
        for message in messages:
            author = self._conversations.author(message)
            is_own = author is not None and author.user_id == frame.user_id
            status = self._conversations.status(partition, message, others) if is_own else None
            rendered.append(msgspec.Raw(bodies.new_message(message, status)))
            if author is not None and author.is_hidden:  # whose it is shows in who is given its status
                origin = msgspec.structs.replace(origin, is_sealed=True)
        body = payloads.ConversationHistory(conversation_id, rendered, has_more)
        emit = ("conversation_history", payloads.encode(body))
        return [answers.accepted(partition.number, origin, body, emit)]

    # --- receipts ------------------------------------------------------------------------------

    def confirmed_nowait(self, partition: Partition, frame: Confirm | Confirms) -> Sequence[Saying] | None:
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
        if message.key in partition.unsaved or confirming == [message.sender_id]:
            return ()
        status, counts = self._conversations.progress(partition, message, others)
        return [_say_status(partition, message, author, status, counts)]

    async def _confirmed(self, partition: Partition, frame: Confirm | Confirms) -> Sequence[Saying]:
        match frame:
            case Confirms():
                standing = await self._standing(frame.conversation_id, frame.user_ids)
                return await self._deliver(partition, frame.conversation_id, frame.seq, standing)
            case Confirm() if names.broadcast_of(frame.conversation_id) is not None:
                partition.receipts.confirm_broadcast(frame.conversation_id, frame.user_id)
                return []
            case Confirm(seqs=(seq,), up_to=0, message_id=None, read=False, event=None):
                user_id = await self._conversations.standing(frame.user_id, frame.conversation_id)
                return await self._deliver(partition, frame.conversation_id, seq, [user_id])
            case _:
                return await self._confirm(partition, frame)

    async def _confirm(self, partition: Partition, frame: Confirm) -> Sequence[Saying]:
        conversation_id, seqs, up_to = frame.conversation_id, frame.seqs, frame.up_to
        if frame.message_id is not None:
            message = await self._named(partition, frame.message_id)
            conversation_id, seqs = message.conversation_id, (message.seq,)
        user_id = await self._conversations.standing(frame.user_id, conversation_id)
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

    async def _deliver(self, partition: Partition, where: str, seq: int, user_ids: Collection[str]) -> Sequence[Saying]:
        """Devices of these users acknowledged one message: one pass, and one status for who wrote it."""
        book = partition.receipts
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
            last_saved = (await self._store.last_seqs([conversation_id])).get(conversation_id, 0)
            partition.note_last_seq(conversation_id, last_saved)
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

    async def _highest_seq(self, partition: Partition, conversation_id: str) -> int:
        """A watermark beyond it would confirm messages that are still to be written."""
        unsaved = [m.seq for m in partition.unsaved.values() if m.conversation_id == conversation_id]
        known = partition.last_seq(conversation_id)
        if known is None:
            known = (await self._store.last_seqs([conversation_id])).get(conversation_id, 0)
            partition.note_last_seq(conversation_id, known)
        return max(known, *unsaved, 0)

    async def _say_change(self, partition: Partition, frame: Confirm, change: Change) -> list[Saying]:
        """The statuses that follow from a receipt, to the senders; and to the reader's other devices."""
        sayings: list[Saying] = []
        newest_read: dict[str, tuple[Author, Message]] = {}
        for message in await self._messages_of(partition, change):
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

    # --- refusals ------------------------------------------------------------------------------

    def _refuse(self, number: int, frame: Request, refusal: Refusal) -> Sequence[Saying]:
        self._metrics.refusals.labels(refusal.code.value).inc()
        match frame:
            case SignIn():
                signed_in = SignedIn(frame.origin.session, frame.user_id, refusal=refusal.code.value)
                return [ToSession(number, frame.origin.gateway, signed_in)]
            case Due():
                page = DuePage(
                    frame.origin.session,
                    position=frame.position,
                    cursors=frame.cursors,
                    budget_bytes=frame.budget_bytes,
                    unavailable=True,
                    walk=frame.walk,
                )
                return [answers.to_origin(number, frame.origin, page)]
            case Confirm(event=None) | Confirms():
                return []  # the acknowledgement of something we sent: it stays due
            case Confirm(event=str(event)) | Join(event=event) | Typing(event=event):
                pass
            case _:
                event = _EVENT_OF.get(type(frame), "")
        body = payloads.encode(payloads.ErrorEvent(refusal.code.value, refusal.message, event))
        return [answers.refused(number, frame.origin, refusal, ("error", body))]


def _say_status(
    partition: Partition, message: Message, author: Author, status: str, counts: payloads.Recipients | None
) -> Saying:
    body = bodies.delivery_status(message, author, status, now_ms(), counts)
    return answers.to_author(partition.number, author, "message_delivery_status", body)


def _sign_in_refusal(user: User | None, issued_at_ms: int) -> Code | None:
    if user is None:
        return Code.USER_NOT_FOUND
    if user.disabled:
        return Code.USER_DISABLED
    return Code.TOKEN_REVOKED if issued_at_ms < user.valid_after_ms else None


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
