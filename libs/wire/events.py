"""What a client sends, event by event, and how it is read.

Every client event has a type here; `read` turns a name and its JSON into one, or refuses it with a
code. Fields that claim an identity are not declared, so they are ignored: the sender is who signed
in. The app's older shape of `send_message` (`messageId`, `messageType`, `mediaUrls`, `metadata`) is
read by the same type.

Over 400 lines, for it is one type after the other, and a client's contract is read in one place.
"""

import json
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from libs.wire import names
from libs.wire.codes import Code, Refusal

MAX_CONTENT_BYTES: Final = 16 * 1024
MAX_CLIENT_ID_CHARS: Final = 128
# Metadata is carried, not read; what a media message needs (size, duration, name) fits many times.
MAX_METADATA_BYTES: Final = 8 * 1024
MAX_URL_CHARS: Final = 2048
MAX_QUERY_CHARS: Final = 200
MIN_QUERY_LETTERS: Final = 2
# Letters, digits and the signs that belong to them, in any script.
_OF_WORDS: Final = ("L", "N", "M")
MAX_TITLE_CHARS: Final = 200
MAX_PLACES: Final = 10_000
MAX_PRESENCE_IDS: Final = 500
LEVELS: Final = ("state", "district", "mandal", "village")
PRIORITIES: Final = ("low", "normal", "high", "critical")
# Whose warnings are taken: emergencies and broadcasts.
MAY_WARN: Final = frozenset({"coordinator", "admin", "founder"})
MESSAGE_TYPES: Final = frozenset({"text", "image", "document", "voice", "location", "emergency"})
# A picture or a recording may come without a caption; these three say what they say in `content`.
_NEEDS_CONTENT: Final = frozenset({"text", "emergency", "location"})
_ENCRYPTION_LEVELS: Final = frozenset({"standard", "high_security"})

# What decoding JSON may raise: it is none, it is not UTF-8, it is nested deeper than the decoder follows.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)

Millis = Annotated[int, Meta(ge=0, le=1 << 53)]
Seq = Annotated[int, Meta(ge=0, le=1 << 53)]
Bytes = Annotated[int, Meta(ge=1024, le=1 << 53)]
Url = Annotated[str, Meta(max_length=MAX_URL_CHARS)]
# Checked by hand, so that each has a code of its own; said to who reads the contract.
MessageType = Annotated[str, Meta(extra_json_schema={"enum": sorted(MESSAGE_TYPES)})]
EncryptionLevel = Annotated[str, Meta(extra_json_schema={"enum": sorted(_ENCRYPTION_LEVELS)})]
Level = Annotated[str, Meta(extra_json_schema={"enum": list(LEVELS)})]
Priority = Annotated[str, Meta(extra_json_schema={"enum": list(PRIORITIES)})]
Content = Annotated[str, Meta(extra_json_schema={"description": "At most 16 KiB of UTF-8."})]
ClientId = Annotated[str, Meta(extra_json_schema={"maxLength": MAX_CLIENT_ID_CHARS})]
Title = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_TITLE_CHARS})]
PlaceIds = Annotated[list[str], Meta(extra_json_schema={"minItems": 1, "maxItems": MAX_PLACES})]
UserIds = Annotated[list[str], Meta(extra_json_schema={"maxItems": MAX_PRESENCE_IDS})]


class Draft(Struct, array_like=True, frozen=True):
    """A message as its sender wrote it, both shapes folded into one. Travels inside a `Send` frame."""

    conversation_id: str
    client_id: str
    client_message_id: str
    type: str
    content: str
    media_url: str | None = None
    media_metadata: bytes | None = None  # JSON
    encryption_level: str = "standard"
    is_anonymous: bool = False
    timestamp_ms: int | None = None
    # A bare id that may be a user's or a group's; the router that owns the direct conversation decides.
    bare_id: str | None = None


class Authenticate(Struct, rename="camel", frozen=True):
    """Signs in, or renews a sign-in before its token ends: with a token, or with a resume ticket."""

    token: str | None = None
    resume_ticket: str | None = None
    device_info: dict[str, Any] | None = None


class SendMessage(Struct, rename="camel", frozen=True):
    """A message to a user, a group or a conversation. Sent again with the same `clientId`, it is the same message.

    `messageId`, `messageType`, `mediaUrls` and `metadata` are the older shape.
    """

    id: str | None = None
    message_id: str | None = None
    type: MessageType | None = None
    message_type: MessageType | None = None
    content: Content = ""
    recipient_id: str | None = None
    group_id: str | None = None
    conversation_id: str | None = None
    media_url: Url | None = None
    media_urls: list[Url] | None = None
    media_metadata: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    encryption_level: EncryptionLevel | None = None
    is_anonymous: bool | None = None
    timestamp: int | float | str | None = None
    client_id: ClientId | None = None

    def draft(self, sender_id: str) -> Draft:
        """The message to send, checked. Raises `Refusal`."""
        client_message_id = self.id or self.message_id or ""
        old_id = (self.metadata or {}).get("clientMessageId")
        client_id = self.client_id or (old_id if isinstance(old_id, str) else None) or client_message_id
        kind = self.type or self.message_type or "text"
        media_url = self.media_url or (self.media_urls[0] if self.media_urls else None)
        if not client_id:
            raise Refusal(Code.CLIENT_ID_MISSING)
        if len(client_id) > MAX_CLIENT_ID_CHARS or len(client_message_id) > MAX_CLIENT_ID_CHARS:
            raise Refusal(Code.CLIENT_ID_TOO_LONG)
        if kind not in MESSAGE_TYPES:
            raise Refusal(Code.UNKNOWN_TYPE)
        if not self.content.strip() and (kind in _NEEDS_CONTENT or media_url is None):
            raise Refusal(Code.EMPTY_CONTENT)
        if len(self.content) > MAX_CONTENT_BYTES or len(self.content.encode()) > MAX_CONTENT_BYTES:
            raise Refusal(Code.CONTENT_TOO_LARGE)
        level = self.encryption_level or "standard"
        if level not in _ENCRYPTION_LEVELS:
            raise Refusal(Code.INVALID_PAYLOAD, "encryptionLevel is standard or high_security.")
        conversation_id, bare_id = self._target(sender_id)
        return Draft(
            conversation_id=conversation_id,
            client_id=client_id,
            client_message_id=client_message_id or client_id,
            type=kind,
            content=self.content,
            media_url=media_url,
            media_metadata=self._carried_metadata(),
            encryption_level=level,
            is_anonymous=bool(self.is_anonymous),
            timestamp_ms=_millis(self.timestamp),
            bare_id=bare_id,
        )

    def _target(self, sender_id: str) -> tuple[str, str | None]:
        if self.group_id:
            group_id = names.group_of(self.group_id) or self.group_id
            return _named(names.group(group_id)), None
        if self.recipient_id:
            return target(self.recipient_id, sender_id)[0], None
        if self.conversation_id:
            return target(self.conversation_id, sender_id)
        raise Refusal(Code.INVALID_PAYLOAD, "Say to whom: recipientId, groupId or conversationId.")

    def _carried_metadata(self) -> bytes | None:
        metadata = dict(self.media_metadata or {})
        if self.media_urls and len(self.media_urls) > 1:
            metadata["mediaUrls"] = self.media_urls
        extra = {k: v for k, v in (self.metadata or {}).items() if k != "clientMessageId"}
        metadata.update(extra)
        if not metadata:
            return None
        try:
            encoded = msgspec.json.encode(metadata)
        except RecursionError as error:
            raise Refusal(Code.INVALID_PAYLOAD, "The metadata is nested too deep.") from error
        if len(encoded) > MAX_METADATA_BYTES:
            raise Refusal(Code.INVALID_PAYLOAD, "The metadata is over 8 KiB.")
        return encoded


class MessageDelivered(Struct, rename="camel", frozen=True):
    """This device has a message: `{messageId}`, or all up to one: `{conversationId, seq}`."""

    message_id: str | None = None
    conversation_id: str | None = None
    seq: Seq | None = None


class MarkAsRead(MessageDelivered, frozen=True):
    """The user has read a message: `{messageId}`, or all up to one: `{conversationId, seq}`."""


class JoinGroup(Struct, rename="camel", frozen=True):
    """Asks whether the user may be here: one of the three. Delivery does not depend on joining."""

    group_id: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None


class LeaveGroup(JoinGroup, frozen=True):
    """Undoes a join. Delivery does not depend on it."""


class GetConversationHistory(Struct, rename="camel", frozen=True):
    """Messages of a conversation: the newest, those `before` a time (ms) or a seq, or those `after` a seq."""

    conversation_id: str
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    before: Millis | None = None
    after: Seq | None = None


class Typing(Struct, rename="camel", frozen=True):
    """The user types here, or has stopped: `typing_indicator` says which with `isTyping`."""

    conversation_id: str
    is_typing: bool | None = None


class SearchMessages(Struct, rename="camel", frozen=True):
    """Looks for whole words and beginnings of words in what the user may read: at least two letters."""

    query: Annotated[str, Meta(max_length=MAX_QUERY_CHARS)]
    conversation_id: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 50

    def check(self) -> None:
        """Raises `Refusal`."""
        letters = (char for char in self.query if unicodedata.category(char).startswith(_OF_WORDS))
        if sum(1 for _ in letters) < MIN_QUERY_LETTERS:
            raise Refusal(Code.QUERY_TOO_SHORT)


class EmergencyBroadcast(Struct, rename="camel", frozen=True):
    """A warning to everyone who lives in some places of one level, from a coordinator, admin or founder."""

    title: Title
    content: Content
    location_level: Level
    location_ids: PlaceIds
    priority: Priority = "high"
    # The same broadcast sent again, if the first had no answer.
    client_id: ClientId | None = None

    def check(self) -> None:
        """Raises `Refusal`."""
        if self.location_level not in LEVELS:
            raise Refusal(Code.UNKNOWN_LEVEL)
        if not self.location_ids:
            raise Refusal(Code.NO_PLACES)
        if len(self.location_ids) > MAX_PLACES:
            raise Refusal(Code.TOO_MANY, f"locationIds has {len(self.location_ids)} places; {MAX_PLACES} are the most.")
        if not all(names.is_id(place) for place in self.location_ids):
            raise Refusal(Code.INVALID_PAYLOAD, "locationIds has what is not the id of a place.")
        if self.priority not in PRIORITIES:
            raise Refusal(Code.INVALID_PAYLOAD, f"priority is one of {', '.join(PRIORITIES)}.")
        if not self.title.strip() or not self.content.strip():
            raise Refusal(Code.EMPTY_CONTENT, "A broadcast has a title and a content.")
        if len(self.title) > MAX_TITLE_CHARS:
            raise Refusal(Code.CONTENT_TOO_LARGE, f"The title is over {MAX_TITLE_CHARS} characters.")
        if len(self.content.encode()) > MAX_CONTENT_BYTES:
            raise Refusal(Code.CONTENT_TOO_LARGE)
        if self.client_id is not None and len(self.client_id) > MAX_CLIENT_ID_CHARS:
            raise Refusal(Code.CLIENT_ID_TOO_LONG)


class UpdatePresence(Struct, rename="camel", frozen=True):
    """How the user wants to be seen, on all devices."""

    status: Literal["online", "away", "busy"]


class GetPresence(Struct, rename="camel", frozen=True):
    """Who is here, and when the others were: 500 users at most."""

    user_ids: UserIds

    def check(self) -> tuple[str, ...]:
        """The ids, each once. Raises `Refusal`."""
        if len(self.user_ids) > MAX_PRESENCE_IDS:
            raise Refusal(Code.TOO_MANY, f"userIds has {len(self.user_ids)} ids; {MAX_PRESENCE_IDS} are the most.")
        if not all(names.is_id(user_id) for user_id in self.user_ids):
            raise Refusal(Code.INVALID_PAYLOAD, "userIds has what is not the id of a user.")
        return tuple(dict.fromkeys(self.user_ids))


class SubscribePresence(GetPresence, frozen=True):
    """Asks for `presence_update` of these users, now and on each change."""


class UnsubscribePresence(GetPresence, frozen=True):
    """No more `presence_update` of these users."""


class PreKey(Struct, rename="camel", frozen=True):
    """A public key for one conversation to begin with: X25519, base64."""

    key_id: Annotated[int, Meta(ge=0, le=1 << 31)]
    public_key: str


class SignedPreKey(PreKey, frozen=True):
    """One that serves many; `signature` (base64) is the identity key's, over the bytes of `publicKey`."""

    signature: str


class KeyBundle(Struct, rename="camel", frozen=True):
    """The public keys of one device. `identityKey` is Ed25519, base64. Travels inside a `PublishKeys` frame."""

    device_id: str
    identity_key: str
    signed_pre_key: SignedPreKey
    one_time_pre_keys: list[PreKey] = []


class PublishKeys(KeyBundle, frozen=True):
    """Puts the public keys of one device into the directory; one-time keys are added to those that are there."""


class GetKeys(Struct, rename="camel", frozen=True):
    """The public keys of a user's devices, to write to them in a way that the server cannot read."""

    user_id: str


class Sync(Struct, rename="camel", frozen=True):
    """Says what this device has, by conversation; what it has not comes as `offline_messages`."""

    cursors: Annotated[dict[str, Seq], Meta(max_length=1000)] = {}
    budget_bytes: Bytes | None = None


class Heartbeat(Struct, rename="camel", frozen=True):
    """Is anyone there? `clientTime` is carried back as it came, never read."""

    client_time: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))


type_of_event: Final[dict[str, type[Struct]]] = {
    "authenticate": Authenticate,
    "send_message": SendMessage,
    "message_delivered": MessageDelivered,
    "mark_as_read": MarkAsRead,
    "message_read": MarkAsRead,
    "join_group": JoinGroup,
    "join_conversation": JoinGroup,
    "join_user_room": JoinGroup,
    "leave_group": LeaveGroup,
    "leave_conversation": LeaveGroup,
    "get_conversation_history": GetConversationHistory,
    "typing_start": Typing,
    "typing_stop": Typing,
    "typing_indicator": Typing,
    "search_messages": SearchMessages,
    "emergency_broadcast": EmergencyBroadcast,
    "update_presence": UpdatePresence,
    "get_presence": GetPresence,
    "subscribe_presence": SubscribePresence,
    "unsubscribe_presence": UnsubscribePresence,
    "publish_keys": PublishKeys,
    "get_keys": GetKeys,
    "sync": Sync,
    "heartbeat": Heartbeat,
}

_decoders: Final = {name: msgspec.json.Decoder(kind) for name, kind in type_of_event.items()}
_parts: Final = msgspec.json.Decoder(list[msgspec.Raw])
_text: Final = msgspec.json.Decoder(str)


def split(payload: str | bytes) -> tuple[str, msgspec.Raw]:
    """The name and the first argument (raw JSON) of a Socket.IO event's array. Raises `Refusal`."""
    try:
        parts = _parts.decode(payload)
        name = _text.decode(parts[0])
    except UNREADABLE:
        return _name_of_unreadable(payload), msgspec.Raw(b"")
    except IndexError as error:
        raise Refusal(Code.MALFORMED) from error
    return name, parts[1] if len(parts) > 1 else msgspec.Raw(b"{}")


def _name_of_unreadable(payload: str | bytes) -> str:
    """The name of an event that is JSON, but no text: half an emoji (`\\ud83d`) from an app that cut one in two."""
    try:
        name = json.loads(payload)[0]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise Refusal(Code.MALFORMED) from error
    if not isinstance(name, str):
        raise Refusal(Code.MALFORMED)
    return name.encode(errors="replace").decode()


def read(name: str, argument: msgspec.Raw) -> Struct:
    """The typed event. Raises `Refusal` with `unknown_event` or `invalid_payload`."""
    decoder = _decoders.get(name)
    if decoder is None:
        raise Refusal(Code.UNKNOWN_EVENT)
    try:
        event: Struct = decoder.decode(argument)
    except UNREADABLE as error:
        raise Refusal(Code.INVALID_PAYLOAD, f"The payload of {name} is not right: {_where(error)}") from error
    return event


def target(text: str, viewer_id: str) -> tuple[str, str | None]:
    """The conversation `text` means to `viewer_id`, and the bare id when it could be a group's too.

    A bare id is read as a user's first: whether it is one, the router knows. Raises `Refusal`.
    """
    if names.is_conversation(text):
        return text, None
    if not names.is_id(text):
        raise Refusal(Code.INVALID_PAYLOAD, "This is not the id of a user, a group or a conversation.")
    return names.direct(viewer_id, text), text


def _named(conversation_id: str) -> str:
    if not names.is_conversation(conversation_id):
        raise Refusal(Code.INVALID_PAYLOAD, "This is not the id of a group.")
    return conversation_id


def _millis(timestamp: float | str | None) -> int | None:
    if timestamp is None:
        return None
    if isinstance(timestamp, str):
        try:
            timestamp = datetime.fromisoformat(timestamp).timestamp() * 1000
        except (ValueError, OverflowError) as error:
            raise Refusal(Code.INVALID_PAYLOAD, "timestamp is milliseconds or ISO 8601.") from error
    if not 0 <= timestamp < 1 << 53:
        raise Refusal(Code.INVALID_PAYLOAD, "timestamp is milliseconds since 1970.")
    return int(timestamp)


def _where(error: Exception) -> str:
    """msgspec's own words name the field and the types; they quote a value only for a bad choice."""
    text = str(error)
    return "it is not UTF-8." if isinstance(error, UnicodeError) else f"{text}."
