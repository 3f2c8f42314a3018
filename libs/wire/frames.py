"""What services send each other over Redis: tagged frames, many to an entry.

Inbound frames go from a gateway to the router that owns a partition; downlink frames go from a
router to one gateway. New fields go last with a default, and no tag is reused: readers ship before
writers. Bodies that are only carried stay bytes.

Times are milliseconds since 1970, lengths are bytes.

Over 400 lines, for it is one type after the other, and tags are given out in one place.
"""

from typing import Final

from msgspec import Struct

from libs.wire.events import Draft, KeyBundle

# What the session of an operator's call begins with; no socket's id does.
OPERATORS: Final = "?"


class Origin(Struct, array_like=True, frozen=True):
    """Where an answer goes: a socket on a gateway, and the acknowledgement it waits for, if any."""

    gateway: str
    session: str
    ack: int | None = None
    # What was asked was sealed, so what is answered is (`libs.identity.envelopes`).
    is_sealed: bool = False

    @property
    def is_operators(self) -> bool:
        """Whether an operator's call asks, and no socket."""
        return self.session.startswith(OPERATORS)


class Sender(Struct, array_like=True, frozen=True):
    """Who signed in, as the gateway's verified token and the user's document have it."""

    user_id: str
    name: str
    role: str


class Places(Struct, array_like=True, frozen=True):
    """Where a user lives: an id for each level, empty where none is known."""

    state: str = ""
    district: str = ""
    mandal: str = ""
    village: str = ""


# --- inbound: gateway → router -----------------------------------------------------------------


class SignIn(Struct, array_like=True, tag="signin", frozen=True):
    """A token was good; the router says whether the user is. Goes to the user's partition.

    `issued_at_ms` is when the sign-in behind the token happened: before a revocation, it is void. With a `walk` the
    first page of what is due is asked for as well: it follows the `SignedIn` of who is welcome, in the same section.
    """

    origin: Origin
    user_id: str
    role_claim: str | None
    issued_at_ms: int
    walk: int | None = None


class Send(Struct, array_like=True, tag="send", frozen=True):
    """A message to send. An anonymous one travels inside a `SealedFrame`."""

    origin: Origin
    sender: Sender
    draft: Draft
    received_at_ms: int
    # Of the few that are traced: W3C's `traceparent` (`libs.telemetry.tracing`).
    trace: str = ""


class Confirm(Struct, array_like=True, tag="confirm", frozen=True):
    """Delivered (or read) on a device: exact `seqs`, all `up_to` a seq, or one message by its id."""

    origin: Origin
    user_id: str
    conversation_id: str
    seqs: tuple[int, ...] = ()
    up_to: int = 0
    message_id: str | None = None
    read: bool = False
    at_ms: int = 0
    # An event of the client's (answered, and refused aloud), not the acknowledgement of one of ours.
    event: str | None = None
    bare_id: str | None = None
    # As in `Emit`: of the one seq there is.
    mark: int = 0


class Confirms(Struct, array_like=True, tag="confirms", frozen=True):
    """Delivered: devices of these users acknowledged one message. Gathered at a gateway, and answered to nobody."""

    origin: Origin
    conversation_id: str
    seq: int
    user_ids: tuple[str, ...]
    at_ms: int = 0
    # As in `Emit`.
    mark: int = 0


class DuePosition(Struct, array_like=True, frozen=True):
    """Where a walk through what is due has come to: the sort key of the last message sent.

    `as_of`: when the walk began, by the store's own count. It goes through what was saved by then; what was saved later
    comes live, behind it. Some of that would stand before the position, some after it: out of order.
    """

    rank: int
    server_time_ms: int
    conversation_id: str
    seq: int
    as_of: int = 0


class Due(Struct, array_like=True, tag="due", frozen=True):
    """The next page of what a user is owed, after `position`. Goes to the user's partition.

    With `cursors` (from `sync`) the device says what it has; what it has not is owed, confirmed or not. The
    answer names the `walk` it belongs to: a new one may have begun meanwhile.
    """

    origin: Origin
    user_id: str
    position: DuePosition | None = None
    cursors: dict[str, int] | None = None
    budget_bytes: int | None = None
    walk: int = 0


class History(Struct, array_like=True, tag="history", frozen=True):
    origin: Origin
    user_id: str
    conversation_id: str
    limit: int
    before: int | None = None
    after: int | None = None
    bare_id: str | None = None


class Join(Struct, array_like=True, tag="join", frozen=True):
    """May this user be in this conversation? Nothing is kept: delivery does not depend on joining."""

    origin: Origin
    user_id: str
    conversation_id: str
    event: str
    bare_id: str | None = None


class Typing(Struct, array_like=True, tag="typing", frozen=True):
    """Somebody began or stopped typing. Worth nothing when it is late: dropped, not queued."""

    origin: Origin
    user_id: str
    user_name: str
    conversation_id: str
    is_typing: bool
    event: str
    at_ms: int
    bare_id: str | None = None


class Broadcast(Struct, array_like=True, tag="broadcast", frozen=True):
    """An emergency broadcast to everyone who lives in some places of one level. Goes to the alarm partition."""

    origin: Origin
    sender: Sender
    broadcast_id: str
    title: str
    content: str
    level: str
    place_ids: tuple[str, ...]
    priority: str
    received_at_ms: int


class Tally(Struct, array_like=True, tag="tally", frozen=True):
    """How far a broadcast has come, place by place. Goes to the alarm partition."""

    origin: Origin
    broadcast_id: str


class Trace(Struct, array_like=True, tag="trace", frozen=True):
    """Where is a message, and how did it get there? Goes to the partition of its conversation."""

    origin: Origin
    message_id: str


class Sums(Struct, array_like=True, tag="sums", frozen=True):
    """How it stands with all messages in the ledger of the partition it goes to, or those of the last `seconds`."""

    origin: Origin
    seconds: int = 0


class Search(Struct, array_like=True, tag="search", frozen=True):
    """Goes to the user's partition."""

    origin: Origin
    user_id: str
    query: str
    limit: int
    conversation_id: str | None = None
    bare_id: str | None = None


class PublishKeys(Struct, array_like=True, tag="publishkeys", frozen=True):
    """The public keys of one of the user's devices. Goes to the user's partition."""

    origin: Origin
    user_id: str
    bundle: KeyBundle
    # The same when the frame is read again: what it did is then known to be done.
    request: str = ""


class TakeKeys(Struct, array_like=True, tag="takekeys", frozen=True):
    """The public keys of `owner_id`, whose one-time keys are handed out once. Goes to the owner's partition."""

    origin: Origin
    user_id: str
    owner_id: str
    # The same when the frame is read again: it is then answered with the same keys.
    request: str = ""


class Revoke(Struct, array_like=True, tag="revoke", frozen=True):
    """Every sign-in of a user from before now is void. Goes to the user's partition."""

    origin: Origin
    user_id: str
    at_ms: int


class SealedFrame(Struct, array_like=True, tag="sealed", frozen=True):
    """A frame that would tell who wrote anonymously; `body` is sealed, and so is the session in `origin`."""

    origin: Origin
    body: bytes


class Canary(Struct, array_like=True, tag="canary", frozen=True):
    """Goes the way of every frame and comes back as a `CanaryReply`: the way is open. Goes to every partition.

    No session is its origin. `sent_ms` is by a clock of the gateway's own.
    """

    origin: Origin
    sent_ms: int


Inbound = (
    SignIn
    | Send
    | Confirm
    | Confirms
    | Due
    | History
    | Join
    | Typing
    | Broadcast
    | Tally
    | Search
    | PublishKeys
    | TakeKeys
    | Revoke
    | SealedFrame
    | Canary
    | Trace
    | Sums
)


# --- downlink: router or presence → gateway ----------------------------------------------------


class Profile(Struct, array_like=True, frozen=True):
    """What a gateway keeps of a user while signed in."""

    user_id: str
    name: str
    role: str
    places: Places = Places()


class SignedIn(Struct, array_like=True, tag="signedin", frozen=True):
    """The router's word on a `SignIn`: a profile, or the code of a refusal."""

    session: str
    user_id: str
    profile: Profile | None = None
    refusal: str | None = None


class Answer(Struct, array_like=True, tag="answer", frozen=True):
    """For one socket: the body of an acknowledgement, if one waits, and events to emit."""

    session: str
    ack: int | None = None
    body: bytes = b""
    emits: tuple[tuple[str, bytes], ...] = ()


class Emit(Struct, array_like=True, tag="emit", frozen=True):
    """An event for every socket of some users, but one. With a `seq` it is to be confirmed.

    One for an anonymous sender travels inside a `SealedReply`.
    """

    users: tuple[str, ...]
    event: str
    body: bytes
    conversation_id: str = ""
    seq: int = 0
    skip_session: str | None = None
    # Which message it is, as it was not in the store when this was said: a wiped broker may give its place to another.
    mark: int = 0
    # That of the `Send` it came of.
    trace: str = ""


class DuePage(Struct, array_like=True, tag="page", frozen=True):
    """A page of what is due for one socket: the body of `offline_messages`, and what it confirms.

    `position` is where the next page starts, None with the last one. `unavailable`: the store is away,
    ask again.
    """

    session: str
    body: bytes = b""
    confirms: tuple[tuple[str, tuple[int, ...]], ...] = ()
    position: DuePosition | None = None
    cursors: dict[str, int] | None = None
    budget_bytes: int | None = None
    unavailable: bool = False
    walk: int = 0
    # Broadcasts that are due, by id, ahead of all else: each is an `emergency_broadcast` of its own.
    alarms: tuple[tuple[str, bytes], ...] = ()


class TypingNotice(Struct, array_like=True, tag="typing", frozen=True):
    """Somebody types, or stopped: for every socket of some users."""

    users: tuple[str, ...]
    conversation_id: str
    user_id: str
    user_name: str
    is_typing: bool
    at_ms: int


class Alarm(Struct, array_like=True, tag="alarm", frozen=True):
    """A broadcast for every socket whose user lives in one of these places. One frame a gateway."""

    broadcast_id: str
    level: str
    place_ids: tuple[str, ...]
    body: bytes


class Moved(Struct, array_like=True, tag="moved", frozen=True):
    """A user lives elsewhere now."""

    user_id: str
    places: Places


class SignedOut(Struct, array_like=True, tag="signedout", frozen=True):
    """A user's sockets are closed, with the code of a refusal: those that signed in before `valid_after_ms`.

    So a frame that is replayed closes nobody who has signed in since.
    """

    user_id: str
    refusal: str
    valid_after_ms: int


class PresenceChange(Struct, array_like=True, frozen=True):
    """A person's status from `at_ms` on. `at_ms` rises with every change of one person."""

    user_id: str
    status: str
    last_seen_ms: int
    at_ms: int


class PresenceChanges(Struct, array_like=True, tag="presence", frozen=True):
    """What became of people whom somebody on this gateway watches."""

    changes: tuple[PresenceChange, ...]


class SealedReply(Struct, array_like=True, tag="sealed", frozen=True):
    """A frame that would tell who wrote anonymously, sealed."""

    body: bytes


class CanaryReply(Struct, array_like=True, tag="canary", frozen=True):
    """A `Canary` that came back from a partition: on the downlink, from that of broadcasts among the alarms."""

    partition: int
    sent_ms: int


Downlink = (
    SignedIn
    | Answer
    | Emit
    | DuePage
    | TypingNotice
    | Alarm
    | Moved
    | SignedOut
    | PresenceChanges
    | SealedReply
    | CanaryReply
)

# The partition of sections that nobody fences: what is in them can be told twice, or late, without harm.
UNFENCED: Final = -1


class Section(Struct, array_like=True, frozen=True):
    """Frames of one partition, under the fencing token of the router that wrote them."""

    partition: int
    token: int
    frames: tuple[Downlink, ...]
