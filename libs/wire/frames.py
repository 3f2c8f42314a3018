"""What services send each other over Redis: tagged frames, many to an entry.

Inbound frames go from a gateway to the router that owns a partition; downlink frames go from a
router to one gateway. New fields go last with a default, and no tag is reused: readers ship before
writers. Bodies that are only carried stay bytes.

Times are milliseconds since 1970, lengths are bytes.
"""

from msgspec import Struct

from libs.wire.events import Draft


class Origin(Struct, array_like=True, frozen=True):
    """Where an answer goes: a socket on a gateway, and the acknowledgement it waits for, if any."""

    gateway: str
    session: str
    ack: int | None = None


class Sender(Struct, array_like=True, frozen=True):
    """Who signed in, as the gateway's verified token and the user's document have it."""

    user_id: str
    name: str
    role: str


# --- inbound: gateway → router -----------------------------------------------------------------


class SignIn(Struct, array_like=True, tag="signin", frozen=True):
    """A token was good; the router says whether the user is. Goes to the user's partition.

    `issued_at_ms` is when the sign-in behind the token happened: before a revocation, it is void.
    """

    origin: Origin
    user_id: str
    role_claim: str | None
    issued_at_ms: int


class Send(Struct, array_like=True, tag="send", frozen=True):
    origin: Origin
    sender: Sender
    draft: Draft
    received_at_ms: int


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


class DuePosition(Struct, array_like=True, frozen=True):
    """Where a walk through what is due has come to: the sort key of the last message sent."""

    rank: int
    server_time_ms: int
    conversation_id: str
    seq: int


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


Inbound = SignIn | Send | Confirm | Due | History | Join


# --- downlink: router → gateway ----------------------------------------------------------------


class Profile(Struct, array_like=True, frozen=True):
    """What a gateway keeps of a user while signed in."""

    user_id: str
    name: str
    role: str


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
    """An event for every socket of some users, but one. With a `seq` it is to be confirmed."""

    users: tuple[str, ...]
    event: str
    body: bytes
    conversation_id: str = ""
    seq: int = 0
    skip_session: str | None = None


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


Downlink = SignedIn | Answer | Emit | DuePage


class Section(Struct, array_like=True, frozen=True):
    """Frames of one partition, under the fencing token of the router that wrote them."""

    partition: int
    token: int
    frames: tuple[Downlink, ...]
