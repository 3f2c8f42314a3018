"""What a client receives: the JSON bodies of the server's events and answers.

Names are PROTOCOL's, in camel case on the wire. Each body is encoded once and carried as bytes from
there to the socket.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from libs.wire.codes import Code, Refusal, is_retryable
from libs.wire.events import PreKey, SignedPreKey

_encoder: Final = msgspec.json.Encoder()


class AuthRequired(Struct, rename="camel", frozen=True):
    timeout_ms: int


class AuthSuccess(Struct, rename="camel", frozen=True):
    connection_id: str
    user_id: str
    user_name: str
    user_role: str
    server_time: int
    resume_ticket: str


class AuthFailed(Struct, rename="camel", frozen=True):
    code: str
    message: str
    retryable: bool


class AuthTimeout(Struct, rename="camel", frozen=True):
    message: str


class TokenExpiring(Struct, rename="camel", frozen=True):
    expires_at: int


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

    status: str
    message_id: str
    client_id: str
    conversation_id: str
    seq: int
    server_time: int
    ok: bool = True


class Recipients(Struct, rename="camel", frozen=True):
    total: int
    delivered: int
    read: int


class MessageDeliveryStatus(Struct, rename="camel", frozen=True, omit_defaults=True):
    message_id: str
    client_message_id: str
    client_id: str
    conversation_id: str
    seq: int
    status: str
    timestamp: int
    recipients: Recipients | None = None
    error: str | None = None


class NewMessage(Struct, rename="camel", frozen=True):
    id: str
    seq: int
    conversation_id: str
    type: str
    content: str
    sender_id: str
    sender_name: str
    sender_role: str
    encryption_level: str
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
    status: str | msgspec.UnsetType = msgspec.UNSET


class OfflineMessages(Struct, rename="camel", frozen=True):
    messages: list[msgspec.Raw]
    has_more: bool
    cursors: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class ConversationHistory(Struct, rename="camel", frozen=True):
    conversation_id: str
    messages: list[msgspec.Raw]
    has_more: bool


class MessageReadConfirmed(Struct, rename="camel", frozen=True):
    message_id: str | None
    conversation_id: str
    seq: int


class MessageRead(Struct, rename="camel", frozen=True):
    message_id: str | None
    conversation_id: str
    seq: int
    read_by: str
    read_at: int


class GroupJoined(Struct, rename="camel", frozen=True):
    group_id: str


class TypingIndicator(Struct, rename="camel", frozen=True):
    user_id: str
    user_name: str
    conversation_id: str
    is_typing: bool
    timestamp: int


class SearchResults(Struct, rename="camel", frozen=True):
    query: str
    results: list[msgspec.Raw]
    conversation_id: str | None


class PresenceUpdate(Struct, rename="camel", frozen=True):
    """`status` is online, away, busy or offline; `lastSeen` is null for someone who was never here."""

    user_id: str
    status: str
    last_seen: int | None


class Seen(Struct, rename="camel", frozen=True):
    """One person in `Presence`."""

    status: str
    last_seen: int | None


class Presence(Struct, rename="camel", frozen=True):
    """The answer to `get_presence`, by user id."""

    presence: dict[str, Seen]


class EmergencyBroadcast(Struct, rename="camel", frozen=True):
    broadcast_id: str
    title: str
    content: str
    priority: str
    timestamp: int
    location_level: str
    location_ids: list[str]
    type: str = "emergency_broadcast"


class Reach(Struct, rename="camel", frozen=True):
    """How many people a broadcast is for: those who are online now, and those who are not."""

    online: int
    offline: int


class BroadcastAccepted(Struct, rename="camel", frozen=True):
    """The answer to `emergency_broadcast`. `status` is sent, or queued while the store is away."""

    broadcast_id: str
    status: str
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
    device_id: str
    remaining: int


class HeartbeatAck(Struct, rename="camel", frozen=True):
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
