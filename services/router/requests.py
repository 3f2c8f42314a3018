"""What is asked of a router besides sending: signing in, what is due, history, joining, receipts.

Each frame is answered, refused with a code, or (a receipt) taken note of.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from libs.broker import AWAY
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
from services.router.accounts import Accounts
from services.router.confirmations import Confirmations
from services.router.conversations import Conversations
from services.router.due import DuePages
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.people import People
from services.router.routing import Saying, ToSeats, ToSession
from services.router.store import Store, StoreAway, User
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
        accounts: Accounts | None = None,
    ) -> None:
        self._store = store
        self._people = people
        self._conversations = conversations
        self._pages = pages
        self._typing = typing
        self.confirmations = Confirmations(store, conversations)
        self._metrics = metrics
        self._accounts = accounts

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
            case SignIn():
                return [ToSession(partition.number, frame.origin.gateway, said) for said in await self._sign_in(frame)]
            case Due():
                return [answers.to_origin(partition.number, frame.origin, await self._due(frame))]
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
                return await self.confirmations.answer(partition, frame)
            case History():
                return await self._history(partition, frame)
            case Typing():
                return await self._typing.say(partition.number, frame, is_replay=is_replay)
            case Join():
                await self._conversations.standing(frame.user_id, frame.conversation_id)
                group_id = names.group_of(frame.conversation_id) or frame.conversation_id
                body = payloads.encode(payloads.GroupJoined(group_id))
                return [answers.accepted(partition.number, frame.origin, payloads.Ok(), ("group_joined", body))]

    async def _sign_in(self, frame: SignIn) -> list[SignedIn | DuePage]:
        user = await self._people.fresh_user(frame.user_id)
        code = _sign_in_refusal(user, frame.issued_at_ms)
        if user is None or code is not None:
            return [SignedIn(frame.origin.session, frame.user_id, refusal=(code or Code.USER_NOT_FOUND).value)]
        if self._accounts is not None:
            self._accounts.note_nowait(user.id, frame.issued_at_ms)
        profile = Profile(user.id, user.name, frame.role_claim or user.role, user.places)
        signed_in = SignedIn(frame.origin.session, user.id, profile)
        return [signed_in] if frame.walk is None else [signed_in, await self._first_page(frame, frame.walk)]

    async def _first_page(self, frame: SignIn, walk: int) -> DuePage:
        try:
            return await self._pages.page(Due(frame.origin, frame.user_id, walk=walk))
        except StoreAway:
            return DuePage(frame.origin.session, unavailable=True, walk=walk)

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
        told = [ToSeats(partition.number, frame.user_id, signed_out)]
        if not frame.origin.gateway:  # nobody asked: it was found out
            return told
        if self._accounts is not None:
            self._accounts.note_revoked_nowait(frame.user_id)
        return [
            *told,
            answers.accepted(partition.number, frame.origin, payloads.Revoked(frame.user_id, valid_after_ms)),
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


def _sign_in_refusal(user: User | None, issued_at_ms: int) -> Code | None:
    if user is None:
        return Code.USER_NOT_FOUND
    if user.disabled:
        return Code.USER_DISABLED
    return Code.TOKEN_REVOKED if issued_at_ms < user.valid_after_ms else None
