"""How things are named: conversations, messages, partitions. Names are derived, never drawn.

A conversation id is `direct:<uidA>:<uidB>` (in byte order) or `group:<groupId>`. A message id is
36 hex digits: four for the slot of its conversation (so that `{messageId}` alone finds the
partition) and 32 that follow from (sender, clientId), so that a message sent twice is one message.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from zlib import crc32

_SLOTS = 1 << 16
_SLOT_HEX = 4
_DIGEST_BYTES = 16
_MESSAGE_ID = re.compile(rf"[0-9a-f]{{{_SLOT_HEX + 2 * _DIGEST_BYTES}}}")
_PSEUDONYM = re.compile(r"anon-[0-9a-f]{20}")
_BROADCAST_ID = re.compile(rf"[0-9a-f]{{{2 * _DIGEST_BYTES}}}")
# What is found out about a name is asked again for each frame that bears it: 0.1 µs for those at hand, else 3.
_AT_HAND: Final = 16_384
# 128 is Firebase's own limit for a uid. A colon would make a conversation id ambiguous; half an emoji has no bytes.
_ID = re.compile(r"[^\s:\x00-\x1f\x7f\ud800-\udfff]{1,128}")


def is_id(text: str) -> bool:
    """Whether `text` can name a user or a group: 1 to 128 characters, no colon, space or control
    character, and nothing that is no character by itself."""
    return _ID.fullmatch(text) is not None


def direct(one: str, other: str) -> str:
    """The conversation of two users, the same whoever asks."""
    first, second = sorted((one, other), key=str.encode)
    return f"direct:{first}:{second}"


def group(group_id: str) -> str:
    """The conversation of a group."""
    return f"group:{group_id}"


@lru_cache(_AT_HAND)
def direct_pair(conversation_id: str) -> tuple[str, str] | None:
    """The two users of a direct conversation, or None if it is not one (or not a well-formed one)."""
    kind, _, rest = conversation_id.partition(":")
    one, _, other = rest.partition(":")
    if kind != "direct" or not is_id(one) or not is_id(other) or direct(one, other) != conversation_id:
        return None
    return one, other


@lru_cache(_AT_HAND)
def group_of(conversation_id: str) -> str | None:
    """The group id of a group conversation, or None if it is not one."""
    kind, _, group_id = conversation_id.partition(":")
    return group_id if kind == "group" and is_id(group_id) else None


def is_conversation(text: str) -> bool:
    """Whether `text` is a well-formed conversation id."""
    return direct_pair(text) is not None or group_of(text) is not None


def pseudonym(digest: bytes) -> str:
    """The name that a keyed hash of an anonymous sender makes. No user may have an id of this form."""
    return f"anon-{digest.hex()[:20]}"


def is_pseudonym(text: str) -> bool:
    """Whether an id is an anonymous sender's."""
    return _PSEUDONYM.fullmatch(text) is not None


def is_pseudonymous(conversation_id: str) -> bool:
    """Whether this is a direct conversation that somebody began under a pseudonym."""
    # The first look spares all others the second.
    return ":anon-" in conversation_id and any(map(is_pseudonym, direct_pair(conversation_id) or ()))


def message_key(sender_id: str, client_id: str) -> str:
    """What makes a message one message: 32 hex digits from (sender, clientId)."""
    return blake2b(f"{sender_id}\0{client_id}".encode(), digest_size=_DIGEST_BYTES).hexdigest()


def message_id(sender_id: str, client_id: str, conversation_id: str) -> str:
    """The public id of a message: its conversation's slot, then its key."""
    return message_id_of(message_key(sender_id, client_id), conversation_id)


def message_id_of(key: str, conversation_id: str) -> str:
    """The public id of a message that has this key."""
    return f"{_slot(conversation_id):0{_SLOT_HEX}x}{key}"


def key_of(message_id: str) -> str | None:
    """The key inside a message id, or None if the id is not one of ours."""
    return message_id[_SLOT_HEX:] if _MESSAGE_ID.fullmatch(message_id) else None


def partition_of(conversation_id: str, partitions: int) -> int:
    """The partition that orders a conversation, in `range(partitions)`."""
    return _slot(conversation_id) % partitions


def partition_of_user(user_id: str, partitions: int) -> int:
    """The partition that answers what concerns a user across conversations: sign-in, what is due."""
    return _slot(f"user:{user_id}") % partitions


def partition_of_message(message_id: str, partitions: int) -> int | None:
    """The partition of the conversation a message is in, or None if the id is not one of ours."""
    return None if key_of(message_id) is None else int(message_id[:_SLOT_HEX], 16) % partitions


def alarm_partition(partitions: int) -> int:
    """The partition of broadcasts, beyond those of conversations: they wait behind nothing else."""
    return partitions


def broadcast_id(sender_id: str, client_id: str) -> str:
    """What makes a broadcast one broadcast: 32 hex digits."""
    return blake2b(f"broadcast\0{sender_id}\0{client_id}".encode(), digest_size=_DIGEST_BYTES).hexdigest()


def broadcast(broadcast_id: str) -> str:
    """What receipts of a broadcast are kept under, as those of a conversation are: its one seq is 1."""
    return f"broadcast:{broadcast_id}"


def broadcast_of(conversation_id: str) -> str | None:
    """The id of a broadcast, or None if receipts under this id are not a broadcast's."""
    kind, _, broadcast_id = conversation_id.partition(":")
    return broadcast_id if kind == "broadcast" and _BROADCAST_ID.fullmatch(broadcast_id) else None


@lru_cache(_AT_HAND)
def _slot(text: str) -> int:
    return crc32(text.encode()) % _SLOTS
