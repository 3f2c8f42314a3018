"""Records as the bodies that clients receive, each encoded once."""

from typing import Final

import msgspec

from libs.wire import names, payloads
from libs.wire.codes import Refusal
from libs.wire.frames import Broadcast
from services.router.anonymity import Author
from services.router.store import Message

_PLACES_SHOWN: Final = 100


def new_message(message: Message, status: str | None = None) -> bytes:
    """The body of `new_message`, and of an entry in a page or a history (`status` on one's own)."""
    group_id = names.group_of(message.conversation_id)
    pair = names.direct_pair(message.conversation_id)
    recipient = next((user for user in pair if user != message.sender_id), None) if pair else None
    return payloads.encode(
        payloads.NewMessage(
            id=message.id,
            seq=message.seq,
            conversation_id=message.conversation_id,
            type=message.type,
            content=message.content,
            sender_id=message.sender_id,
            sender_name=message.sender_name,
            sender_role=message.sender_role,
            encryption_level=message.encryption_level,
            is_encrypted=message.encryption_level == "high_security",
            is_anonymous=message.is_anonymous,
            timestamp=message.timestamp_ms,
            server_time=message.server_time_ms,
            client_id=message.id if message.is_anonymous else message.client_id,
            recipient_id=recipient if recipient is not None else msgspec.UNSET,
            group_id=group_id if group_id is not None else msgspec.UNSET,
            media_url=message.media_url if message.media_url is not None else msgspec.UNSET,
            media_metadata=msgspec.Raw(message.media_metadata) if message.media_metadata else msgspec.UNSET,
            status=status if status is not None else msgspec.UNSET,
        )
    )


def emergency_broadcast(asked: Broadcast) -> bytes:
    """The body of `emergency_broadcast`. A phone on 2G is not sent the ids of thousands of other villages."""
    return payloads.encode(
        payloads.EmergencyBroadcast(
            broadcast_id=asked.broadcast_id,
            title=asked.title,
            content=asked.content,
            priority=asked.priority,
            timestamp=asked.received_at_ms,
            location_level=asked.level,
            location_ids=list(asked.place_ids) if len(asked.place_ids) <= _PLACES_SHOWN else [],
        )
    )


def accepted(message: Message, author: Author, status: str) -> bytes:
    """The answer to a `send_message` that was taken."""
    return payloads.encode(
        payloads.Accepted(
            status, message.id, author.client_id, message.conversation_id, message.seq, message.server_time_ms
        )
    )


def delivery_status(
    message: Message, author: Author, status: str, now_ms: int, recipients: payloads.Recipients | None = None
) -> bytes:
    """The body of `message_delivery_status`."""
    return payloads.encode(
        payloads.MessageDeliveryStatus(
            message.id,
            author.client_message_id,
            author.client_id,
            message.conversation_id,
            message.seq,
            status,
            now_ms,
            recipients,
        )
    )


def message_error(refusal: Refusal, client_message_id: str, client_id: str) -> bytes:
    """The body of `message_error`."""
    return payloads.encode(payloads.MessageError(refusal.code.value, refusal.message, client_message_id, client_id))
