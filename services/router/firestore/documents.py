"""Where everything stands in Firestore: collections, ids that follow from what is named, fields. Pure.

`docs/firestore.md` is the catalogue. Names of collections and fields are the app's where it has them.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import msgspec

from libs.storage.firestore import values
from libs.storage.firestore.ids import derived, is_storable
from libs.storage.firestore.values import Found, Instant, Stamp
from libs.wire import names
from services.router.store import Message, Receipt
from services.router.words import words

USERS: Final = "users"
GROUPS: Final = "groups"
CONVERSATIONS: Final = "conversations"
MESSAGES: Final = "messages"
RECEIPTS: Final = "receipts"
BROADCASTS: Final = "broadcasts"
BROADCAST_RECEIPTS: Final = "broadcast_receipts"
RESIDENCES: Final = "residences"
DEVICES: Final = "devices"
TAKEN_KEYS: Final = "taken_keys"

# How a message stands among what is due: its place in `position_of`; a void one comes after all that is owed.
EMERGENCY: Final = 0
ORDINARY: Final = 1
VOID: Final = 2

# When Firestore is to remove a document by itself, as the TTL policies of `firestore.indexes.json` name it.
EXPIRES: Final = "expiresAt"

_DAY_MS: Final = 24 * 3600 * 1000
_LAST_EXACT_MS: Final = 253_402_300_799_999
# A search asks for the first letters of one of its words: so many, or one where it has fewer.
_PREFIXES: Final = (3, 1)
_REMEMBERED: Final = 50_000
# Half a KB each.
_SENDERS: Final = 8192


def place(conversation_id: str, seq: int) -> str:
    """The id of a place in a conversation."""
    return derived(conversation_id, seq)


def message_id(message: Message) -> str:
    """The id of a message's document: its key, or for a void one, which has none, its place."""
    return f"void-{place(message.conversation_id, message.seq)}" if message.is_void else message.key


def rank(message: Message) -> int:
    """How it stands among what is due."""
    if message.is_void:
        return VOID
    return EMERGENCY if message.type == "emergency" else ORDINARY


def message_write(name: str, message: Message) -> bytes:
    """The write of a message that is new. What is not there says nothing: no field is null."""
    fields: dict[str, Any] = {
        "seq": message.seq,
        "content": message.content,
        "clientMessageId": message.client_message_id,
        "timestamp": Instant(message.timestamp_ms),
        "createdAt": Instant(message.server_time_ms),
        "serverTimeMs": message.server_time_ms,
    }
    again = [
        _by(message.conversation_id, message.sender_id, message.sender_name, message.sender_role),
        _kind(message.type, rank(message), message.encryption_level, message.is_anonymous),
    ]
    if message.client_id != message.client_message_id:
        fields["clientId"] = message.client_id
    if not 0 <= message.timestamp_ms <= _LAST_EXACT_MS:
        fields["timestampMs"] = message.timestamp_ms
    if message.media_url is not None:
        fields["mediaUrl"] = message.media_url
    if message.media_metadata is not None:
        metadata = msgspec.json.decode(message.media_metadata)
        if is_storable(metadata):  # else the app finds it as JSON only: nobody's message may fail for it
            fields["mediaMetadata"] = metadata
        fields["mediaMetadataJson"] = message.media_metadata.decode()
    if message.sealed is not None:
        fields["sealed"] = message.sealed
    if message.is_void:
        fields["isVoid"] = True
    elif message.encryption_level == "standard":
        found = dict.fromkeys(chain.from_iterable(map(_elements.__getitem__, words(message.content))))
        again.append(values.field("words", values.packed_array(found)))
    return values.create(name, fields, *again)


@lru_cache(_SENDERS)
def _by(conversation_id: str, sender_id: str, sender_name: str, sender_role: str) -> bytes:
    """Who writes where: once for whoever writes on."""
    fields = {
        "conversationId": conversation_id,
        "senderId": sender_id,
        "senderName": sender_name,
        "senderRole": sender_role,
    }
    pair = names.direct_pair(conversation_id)
    if pair is not None:
        fields["recipientId"] = pair[0] if pair[1] == sender_id else pair[1]
    else:
        fields["groupId"] = names.group_of(conversation_id) or ""
    return b"".join([values.field(field, each) for field, each in fields.items()])


@lru_cache
def _kind(type_: str, rank_: int, encryption_level: str, is_anonymous: bool) -> bytes:
    """What a message is, of which there are few kinds."""
    fields = {
        "type": type_,
        "rank": rank_,
        "encryptionLevel": encryption_level,
        "isEncrypted": encryption_level != "standard",
        "isAnonymous": is_anonymous,
        "deliveryStatus": "sent",
    }
    return b"".join([values.field(field, each) for field, each in fields.items()])


def expiry(from_ms: int, days: float) -> dict[str, Any]:
    """The field by which Firestore's TTL policy removes a document so many days after a moment; 0: it stays."""
    return {EXPIRES: Instant(from_ms + int(days * _DAY_MS))} if days else {}


def token(word: str) -> str:
    """What to ask for to find messages with a word that begins so, and some others."""
    return word[: next(length for length in _PREFIXES if len(word) >= length)]


def message(document: Found) -> Message:
    """The message that a document holds; what it lacks is as it is for a message of the simplest kind."""
    fields = document.fields
    conversation_id = text(fields, "conversationId")
    client_message_id = text(fields, "clientMessageId")
    is_void = fields.get("isVoid") is True
    metadata = fields.get("mediaMetadataJson", fields.get("mediaMetadata"))
    if metadata is not None:
        metadata = metadata.encode() if isinstance(metadata, str) else msgspec.json.encode(metadata)
    key = "" if is_void else document.id
    return Message(
        id=names.message_id_of(key, conversation_id),
        key=key,
        conversation_id=conversation_id,
        seq=number(fields, "seq"),
        sender_id=text(fields, "senderId"),
        sender_name=text(fields, "senderName"),
        sender_role=text(fields, "senderRole", "member"),
        type=text(fields, "type", "text"),
        content=text(fields, "content"),
        client_id=text(fields, "clientId", client_message_id),
        client_message_id=client_message_id,
        timestamp_ms=number(fields, "timestampMs", _ms(fields.get("timestamp"))),
        server_time_ms=number(fields, "serverTimeMs", _ms(fields.get("createdAt"))),
        media_url=text(fields, "mediaUrl") or None,
        media_metadata=metadata,
        encryption_level=text(fields, "encryptionLevel", "standard"),
        is_anonymous=fields.get("isAnonymous") is True,
        sealed=text(fields, "sealed") or None,
        is_void=is_void,
    )


def receipt_of(fields: Mapping[str, Any]) -> Receipt:
    """The receipt that these fields are."""
    ahead = tuple(each for each in items(fields, "ahead") if isinstance(each, int))
    return Receipt(number(fields, "delivered"), number(fields, "read"), ahead)


def text(fields: Mapping[str, Any], name: str, default: str = "") -> str:
    """A text field; the default where it is missing, empty or something else."""
    given = fields.get(name)
    return given if isinstance(given, str) and given else default


def number(fields: Mapping[str, Any], name: str, default: int = 0) -> int:
    """A whole number; the default where it is missing or something else."""
    given = fields.get(name)
    return given if isinstance(given, int) and not isinstance(given, bool) else default


def texts(fields: Mapping[str, Any], name: str) -> frozenset[str]:
    """The texts in an array; empty where it is missing or something else."""
    return frozenset(each for each in items(fields, name) if isinstance(each, str))


def items(fields: Mapping[str, Any], name: str) -> Sequence[Any]:
    """An array field; empty where it is missing or something else."""
    given = fields.get(name)
    return given if isinstance(given, list) else ()


class _Elements(dict[str, tuple[bytes, ...]]):
    """What a message is found by that has a word: its beginnings. Most words come again, and are at hand."""

    def __missing__(self, word: str) -> tuple[bytes, ...]:
        found = tuple(values.element(word[:length]) for length in _PREFIXES if len(word) >= length)
        if len(self) >= _REMEMBERED:
            self.clear()  # the most used are back at once
        self[word] = found
        return found


_elements: Final = _Elements()


def _ms(given: Any) -> int:
    return given.seconds * 1000 + given.nanos // 1_000_000 if isinstance(given, Stamp) else 0
