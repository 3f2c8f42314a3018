"""What a client receives: the JSON bodies of the server's events and answers.

Names are PROTOCOL's, in camel case on the wire. Each body is encoded once and carried as bytes from
there to the socket.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from libs.wire.codes import Code, Refusal, is_retryable

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


class HeartbeatAck(Struct, rename="camel", frozen=True):
    server_time: int
    client_time: msgspec.Raw


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
