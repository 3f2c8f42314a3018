"""What a client receives: the JSON bodies of the server's events and answers.

Names are PROTOCOL's, in camel case on the wire. Each body is encoded once and carried as bytes from
there to the socket.

Over 400 lines, for the same reason as `events.py`.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from libs.wire.codes import Code, Refusal, is_retryable
from libs.wire.events import EncryptionLevel, Level, MessageType, PreKey, Priority, SignedPreKey

# What the strings can be is for who reads the contract; here they are only carried.
Saved = Annotated[str, Meta(extra_json_schema={"enum": ["queued", "sent"]})]
DeliveryStatus = Annotated[str, Meta(extra_json_schema={"enum": ["queued", "sent", "delivered", "read", "failed"]})]
PresenceStatus = Annotated[str, Meta(extra_json_schema={"enum": ["online", "away", "busy", "offline"]})]

_encoder: Final = msgspec.json.Encoder()


class AuthRequired(Struct, rename="camel", frozen=True):
    """The handshake carried no token: sign in with `authenticate` within this time."""

    timeout_ms: int


class AuthSuccess(Struct, rename="camel", frozen=True):
    """Signed in. `resumeTicket` signs in the next time, without a look at the token."""

    connection_id: str
    user_id: str
    user_name: str
    user_role: str
    server_time: int
    resume_ticket: str


class AuthFailed(Struct, rename="camel", frozen=True):
    """The sign-in was refused, or has ended; the socket is closed, unless it was a renewal that may be tried again."""

    code: str
    message: str
    retryable: bool


class AuthTimeout(Struct, rename="camel", frozen=True):
    """No sign-in came in time; the socket is closed."""

    message: str


class TokenExpiring(Struct, rename="camel", frozen=True):
    """The sign-in ends at this time: send `authenticate` with a fresh token."""

    expires_at: int


class Reconnect(Struct, rename="camel", frozen=True):
    """The socket is about to be closed: come back after this time, with this ticket, to any gateway.

    Without a ticket, come back with what you have.
    """

    after_ms: int
    resume_ticket: str | msgspec.UnsetType = msgspec.UNSET


class Error(Struct, rename="camel", frozen=True, omit_defaults=True):
    """`error` inside a refused answer."""

    code: str
    message: str
    retryable: bool
    retry_after_ms: int | None = None


class Refused(Struct, rename="camel", frozen=True):
    """The answer to a request that was not accepted."""

    error: Error
    ok: bool = False


class ErrorEvent(Struct, rename="camel", frozen=True):
    """The `error` event that goes with a refusal."""

    code: str
    message: str
    event: str


class MessageError(Struct, rename="camel", frozen=True, omit_defaults=True):
    """The `message_error` event that goes with a refused `send_message`."""

    code: str
    error: str
    message_id: str | None = None
    client_id: str | None = None


class Accepted(Struct, rename="camel", frozen=True):
    """The answer to `send_message`."""

    status: Saved
    message_id: str
    client_id: str
    conversation_id: str
    seq: int
    server_time: int
    ok: bool = True


class Recipients(Struct, rename="camel", frozen=True):
    """How many people a message is for, and how many of them have it and have read it."""

    total: int
    delivered: int
    read: int


class MessageDeliveryStatus(Struct, rename="camel", frozen=True, omit_defaults=True):
    """How far a message has come, to every device of its sender; a status never goes back."""

    message_id: str
    client_message_id: str
    client_id: str
    conversation_id: str
    seq: int
    status: DeliveryStatus
    timestamp: int
    recipients: Recipients | None = None
    error: str | None = None


class NewMessage(Struct, rename="camel", frozen=True):
    """A message, to every device of every recipient (acknowledge it) and to the sender's other devices."""

    id: str
    seq: int
    conversation_id: str
    type: MessageType
    content: str
    sender_id: str
    sender_name: str
    sender_role: str
    encryption_level: EncryptionLevel
    is_encrypted: bool
    is_anonymous: bool
    timestamp: int
    server_time: int
    client_id: str
    recipient_id: str | msgspec.UnsetType = msgspec.UNSET
    group_id: str | msgspec.UnsetType = msgspec.UNSET
    media_url: str | msgspec.UnsetType = msgspec.UNSET
    media_metadata: Any = msgspec.UNSET
    # Only in a history, on the reader's own messages.
    status: DeliveryStatus | msgspec.UnsetType = msgspec.UNSET


class OfflineMessages(Struct, rename="camel", frozen=True):
    """A page of what is due: acknowledge it to confirm it and to get the next."""

    messages: list[msgspec.Raw]
    has_more: bool
    cursors: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class ConversationHistory(Struct, rename="camel", frozen=True):
    """Messages of a conversation, oldest first."""

    conversation_id: str
    messages: list[msgspec.Raw]
    has_more: bool


class MessageReadConfirmed(Struct, rename="camel", frozen=True):
    """The reading was noted, up to this message."""

    message_id: str | None
    conversation_id: str
    seq: int


class MessageRead(Struct, rename="camel", frozen=True):
    """Somebody has read up to this message: to its sender, and to the reader's other devices."""

    message_id: str | None
    conversation_id: str
    seq: int
    read_by: str
    read_at: int


class GroupJoined(Struct, rename="camel", frozen=True):
    """Which group (or conversation, or user room) was joined, or left."""

    group_id: str


class TypingIndicator(Struct, rename="camel", frozen=True):
    """Somebody types, or has stopped: to the others in the conversation."""

    user_id: str
    user_name: str
    conversation_id: str
    is_typing: bool
    timestamp: int


class SearchResults(Struct, rename="camel", frozen=True):
    """What was found, newest first, as bodies of `new_message`."""

    query: str
    results: list[msgspec.Raw]
    conversation_id: str | None


class PresenceUpdate(Struct, rename="camel", frozen=True):
    """Somebody who is watched came, went or chose another status; `lastSeen` is null for who was never here."""

    user_id: str
    status: PresenceStatus
    last_seen: int | None


class Seen(Struct, rename="camel", frozen=True):
    """One person in `Presence`."""

    status: PresenceStatus
    last_seen: int | None


class Presence(Struct, rename="camel", frozen=True):
    """The answer to `get_presence`, by user id."""

    presence: dict[str, Seen]


class EmergencyBroadcast(Struct, rename="camel", frozen=True):
    """A warning to everyone who lives in these places, once per device: acknowledge it to confirm it."""

    broadcast_id: str
    title: str
    content: str
    priority: Priority
    timestamp: int
    location_level: Level
    location_ids: list[str]
    type: str = "emergency_broadcast"


class Reach(Struct, rename="camel", frozen=True):
    """How many people a broadcast is for: those who are online now, and those who are not.

    `offline` is null while the store, which knows who lives where, is away.
    """

    online: int
    offline: int | None


class BroadcastAccepted(Struct, rename="camel", frozen=True):
    """The answer to `emergency_broadcast`. `status` is sent, or queued while the store is away."""

    broadcast_id: str
    status: Saved
    reach: Reach


class PlaceTally(Struct, rename="camel", frozen=True):
    """How many people in one place a broadcast is for, has reached on a device, and is still due to."""

    location_id: str
    recipients: int
    delivered: int
    due: int


class BroadcastTally(Struct, rename="camel", frozen=True):
    """`GET /broadcasts/{id}`."""

    broadcast_id: str
    timestamp: int
    location_level: str
    priority: str
    recipients: int
    delivered: int
    due: int
    locations: list[PlaceTally]


class KeysPublished(Struct, rename="camel", frozen=True):
    """The answer to `publish_keys`: how many one-time keys of the device are not handed out."""

    device_id: str
    remaining: int


class DeviceKeys(Struct, rename="camel", frozen=True):
    """The public keys of one device, as `get_keys` hands them out; the one-time key is handed out once."""

    device_id: str
    identity_key: str
    signed_pre_key: SignedPreKey
    one_time_pre_key: PreKey | None


class Keys(Struct, rename="camel", frozen=True):
    """The answer to `get_keys`."""

    user_id: str
    devices: list[DeviceKeys]


class KeysLow(Struct, rename="camel", frozen=True):
    """A device has few one-time keys left: publish more."""

    device_id: str
    remaining: int


class HeartbeatAck(Struct, rename="camel", frozen=True):
    """We are here. `clientTime` is what the heartbeat carried."""

    server_time: int
    client_time: msgspec.Raw


class Revoked(Struct, rename="camel", frozen=True):
    """`POST /users/{uid}/revoke`: sign-ins from before `valid_after` are void, on as many `gateways` sockets fell."""

    user_id: str
    valid_after: int
    gateways: int = 0


class Ok(Struct, frozen=True):
    """The answer to a request that has nothing more to say."""

    ok: bool = True


class Info(Struct, rename="camel", frozen=True):
    """`GET /info`."""

    url: str
    transports: tuple[str, ...]
    path: str
    heartbeat_interval: int
    heartbeat_timeout: int


type_of_event: Final[dict[str, type[Struct]]] = {
    "auth_required": AuthRequired,
    "auth_success": AuthSuccess,
    "auth_failed": AuthFailed,
    "auth_timeout": AuthTimeout,
    "token_expiring": TokenExpiring,
    "reconnect": Reconnect,
    "error": ErrorEvent,
    "message_error": MessageError,
    "message_delivery_status": MessageDeliveryStatus,
    "new_message": NewMessage,
    "offline_messages": OfflineMessages,
    "conversation_history": ConversationHistory,
    "message_read_confirmed": MessageReadConfirmed,
    "message_read": MessageRead,
    "group_joined": GroupJoined,
    "group_left": GroupJoined,
    "typing_indicator": TypingIndicator,
    "search_results": SearchResults,
    "presence_update": PresenceUpdate,
    "emergency_broadcast": EmergencyBroadcast,
    "keys_low": KeysLow,
    "heartbeat_ack": HeartbeatAck,
}


# What an accepted event is answered, beside `ok: true`. A refused one is answered `Refused`.
answer_of_event: Final[dict[str, type[Struct]]] = {
    "authenticate": Ok,
    "send_message": Accepted,
    "message_delivered": Ok,
    "mark_as_read": MessageReadConfirmed,
    "message_read": MessageReadConfirmed,
    "join_group": Ok,
    "join_conversation": Ok,
    "join_user_room": Ok,
    "leave_group": Ok,
    "leave_conversation": Ok,
    "get_conversation_history": ConversationHistory,
    "typing_start": Ok,
    "typing_stop": Ok,
    "typing_indicator": Ok,
    "search_messages": SearchResults,
    "emergency_broadcast": BroadcastAccepted,
    "update_presence": Ok,
    "get_presence": Presence,
    "subscribe_presence": Ok,
    "unsubscribe_presence": Ok,
    "publish_keys": KeysPublished,
    "get_keys": Keys,
    "sync": Ok,
    "heartbeat": HeartbeatAck,
}

# What a client acknowledges, and so confirms.
confirmed_events: Final = frozenset({"new_message", "offline_messages", "emergency_broadcast"})


def encode(body: Struct) -> bytes:
    """UTF-8 JSON; Indic text stays as it is."""
    return _encoder.encode(body)


def refused(refusal: Refusal) -> Refused:
    """The answer that says why not."""
    return Refused(Error(refusal.code.value, refusal.message, is_retryable(refusal.code), refusal.retry_after_ms))


def auth_failed(refusal: Refusal) -> AuthFailed:
    """The sign-in that was refused."""
    return AuthFailed(refusal.code.value, refusal.message, is_retryable(refusal.code))


def accepted_with(body: Struct) -> bytes:
    """`body` as an answer: its fields, and `ok: true`."""
    return b'{"ok":true,' + encode(body)[1:]


INTERNAL: Final = Refusal(Code.INTERNAL)
