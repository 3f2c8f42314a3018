"""What was sent, as the record has it. Pure."""

from zlib import crc32

import msgspec

from libs.wire import names
from libs.wire.frames import Send
from services.router.store import Message


def message(send: Send, key: str, conversation_id: str, seq: int, at_ms: int) -> Message:
    """What was sent, at its place. `at_ms` is the broker's clock, 0 where it did not say."""
    draft = send.draft
    return Message(
        id=names.message_id_of(key, conversation_id),
        key=key,
        conversation_id=conversation_id,
        seq=seq,
        sender_id=send.sender.user_id,
        sender_name=send.sender.name,
        sender_role=send.sender.role,
        type=draft.type,
        content=draft.content,
        client_id=draft.client_id,
        client_message_id=draft.client_message_id,
        timestamp_ms=draft.timestamp_ms if draft.timestamp_ms is not None else send.received_at_ms,
        server_time_ms=at_ms or send.received_at_ms,
        media_url=draft.media_url,
        media_metadata=draft.media_metadata,
        encryption_level=draft.encryption_level,
    )


def mark(message: Message) -> int:
    """What tells a message from another at its place; never 0."""
    return crc32(message.key.encode()) or 1


def void(message: Message) -> Message:
    """What fills the place of a message that has another one."""
    return Message(
        id=message.id,
        key="",
        conversation_id=message.conversation_id,
        seq=message.seq,
        sender_id=message.sender_id,
        sender_name="",
        sender_role="",
        type="void",
        content="",
        client_id="",
        client_message_id="",
        timestamp_ms=message.timestamp_ms,
        server_time_ms=message.server_time_ms,
        is_void=True,
    )


def addressed_to(send: Send, conversation_id: str) -> Send:
    """The same, for the conversation that was meant."""
    draft = msgspec.structs.replace(send.draft, conversation_id=conversation_id, bare_id=None)
    return msgspec.structs.replace(send, draft=draft)
