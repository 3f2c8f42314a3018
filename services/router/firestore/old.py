"""Documents that the app and the server before this one wrote: what they say, and what of it would not fit. Pure.

A message that fits has a conversation and a time. Its document's id stays what it was, so nobody finds it by a
message id; `history` and `due` find it once it has a seq.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from libs.storage.firestore.values import Found, Stamp
from libs.wire import names
from libs.wire.events import MAX_CONTENT_BYTES
from services.router.firestore import documents
from services.router.firestore.documents import EMERGENCY, ORDINARY

USER_FIELDS: Final = ("name", "fullName", "role", "disabled", "blocked", "location")
GROUP_FIELDS: Final = ("name", "members")
MESSAGE_FIELDS: Final = (
    "conversationId",
    "seq",
    "senderId",
    "recipientId",
    "groupId",
    "type",
    "content",
    "deliveryStatus",
    "timestamp",
    "createdAt",
)
# What a group's own document can hold is near this.
_MEMBERS_MAX: Final = 20_000
_KEY: Final = re.compile(r"[0-9a-f]{32}|void-.*")
_HAD: Final = ("delivered", "read")
_ROLES: Final = ("member", "coordinator", "admin", "founder")


class OldMessage(Struct, frozen=True):
    """What is asked of a message that has no seq yet."""

    conversation_id: str
    sender_id: str
    at_ms: int
    rank: int
    is_had: bool  # by its recipient, as far as the server before knew
    is_read: bool


def is_ours(document: Found) -> bool:
    """Whether this message was written by a router: it has its place."""
    return _KEY.fullmatch(document.id) is not None


def of_user(document: Found) -> Iterator[str]:
    """What is wrong with a user."""
    fields = document.fields
    if not names.is_id(document.id):
        yield "users whose id cannot be one: nobody can write to them"
    if not documents.text(fields, "name") and not documents.text(fields, "fullName"):
        yield "users without a name: they are called by their id"
    if "role" in fields and fields["role"] not in _ROLES:
        yield "users with an unknown role: they are members"
    if "disabled" in fields and not isinstance(fields["disabled"], bool):
        yield "users whose `disabled` is neither true nor false: they are not disabled"
    if "location" in fields and not isinstance(fields["location"], Mapping):
        yield "users whose `location` is none: broadcasts do not reach them"


def of_group(document: Found) -> Iterator[str]:
    """What is wrong with a group."""
    members = document.fields.get("members")
    if not names.is_id(document.id):
        yield "groups whose id cannot be one: nobody can write to them"
    if not isinstance(members, list) or not members:
        yield "groups without members: nobody is in them"
    elif len(members) > _MEMBERS_MAX:
        yield f"groups with more than {_MEMBERS_MAX:,} members: their documents are near what Firestore holds"
    elif not all(isinstance(member, str) and names.is_id(member) for member in members):
        yield "groups with members whose ids cannot be ids: those are nobody"


def of_message(document: Found, groups: Collection[str]) -> tuple[OldMessage | None, list[str]]:
    """What a message says if it fits, and what is wrong with it. `groups` are those that there are."""
    fields = document.fields
    sender_id = documents.text(fields, "senderId")
    recipient_id, group_id = documents.text(fields, "recipientId"), documents.text(fields, "groupId")
    at_ms = _ms(fields.get("createdAt"), fields.get("timestamp"))
    found: list[str] = []
    if not names.is_id(sender_id):
        found.append("messages without a sender")
    if bool(recipient_id) == bool(group_id):
        found.append("messages to nobody, or to a user and a group at once")
    elif not names.is_id(recipient_id or group_id):
        found.append("messages to an id that cannot be one")
    elif group_id and group_id not in groups:
        found.append("messages to groups that are gone")
    if at_ms is None:
        found.append("messages without a time (`createdAt`, or `timestamp`)")
    if found or at_ms is None:
        return None, found
    content = fields.get("content")
    if not isinstance(content, str):
        found.append("messages without content: they fit, and are empty")
    elif len(content.encode()) > MAX_CONTENT_BYTES:
        found.append(f"messages of more than {MAX_CONTENT_BYTES // 1024} KB: they fit, and make pages large")
    status = fields.get("deliveryStatus")
    return (
        OldMessage(
            conversation_id=names.group(group_id) if group_id else names.direct(sender_id, recipient_id),
            sender_id=sender_id,
            at_ms=at_ms,
            rank=EMERGENCY if fields.get("type") == "emergency" else ORDINARY,
            is_had=bool(group_id) or status in _HAD,
            is_read=status == "read",
        ),
        found,
    )


def _ms(*given: Any) -> int | None:
    """The first that is a time: Firestore's, or milliseconds."""
    for each in given:
        if isinstance(each, Stamp):
            return each.seconds * 1000 + each.nanos // 1_000_000
        if isinstance(each, int) and not isinstance(each, bool) and each > 0:
            return each
    return None
