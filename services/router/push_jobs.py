"""What a push says, and what becomes of one. Pure.

A push goes through Google, and lies on a screen that others see: of what is anonymous or highly secure it says no more
than that something waits.
"""

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from libs.wire import names
from services.router.store import Message

_SHOWN_CHARS: Final = 120
_COLLAPSE_CHARS: Final = 32
# Tried again after so many seconds, then twice as long each time, up to the longest.
_RETRY_S: Final = (2, 600)
_TRIES: Final = 10
_WORDS: Final[Mapping[str, str]] = {
    "image": "Photo",
    "document": "Document",
    "voice": "Voice message",
    "location": "Location",
}


class Push(Struct, array_like=True, frozen=True):
    """What phones show: `title` and `body` are empty for one that only wakes the app, which then fetches.

    Of several with the same `collapse` a phone shows the last.
    """

    collapse: str
    data: dict[str, str]
    title: str = ""
    body: str = ""
    is_urgent: bool = False


class Job(Struct, array_like=True, frozen=True):
    """A push on its way: to the devices of one user by their tokens, or to all who follow a topic.

    `is_sending`: it was handed on, and nobody knows yet what became of it.
    """

    push: Push
    user_id: str = ""
    tokens: tuple[str, ...] = ()
    topic: str = ""
    tries: int = 0
    not_before_ms: int = 0
    is_sending: bool = False


class Fate(Enum):
    """What became of a push to one device, or topic."""

    SENT = "sent"
    DEAD = "dead"  # nobody has this token any more
    RETRY = "retry"  # it may be taken later
    REFUSED = "refused"  # it never will be


def waiting(message: Message) -> str:
    """What waits for a message to become due for a push; see `place_of`."""
    return f"{message.conversation_id}\n{message.seq}"


def place_of(member: str) -> tuple[str, int]:
    """The conversation and seq of what waits."""
    conversation_id, _, seq = member.rpartition("\n")
    return conversation_id, int(seq)


def of_messages(messages: Sequence[Message]) -> Push:
    """One push for messages of one conversation that somebody does not have, in order."""
    newest, collapse = messages[-1], _collapse(messages[-1].conversation_id)
    is_urgent = any(message.type == "emergency" for message in messages)
    if any(message.is_anonymous or message.encryption_level == "high_security" for message in messages):
        return Push(collapse, {"type": "sync"}, is_urgent=is_urgent)
    data = {"type": "new_message", "conversationId": newest.conversation_id, "messageId": newest.id}
    body = _WORDS.get(newest.type) or newest.content[:_SHOWN_CHARS]
    return Push(collapse, data, newest.sender_name, body, is_urgent)


def of_broadcast(broadcast_id: str, title: str, content: str) -> Push:
    """The push of a warning."""
    data = {"type": "emergency_broadcast", "broadcastId": broadcast_id}
    return Push(_collapse(names.broadcast(broadcast_id)), data, title, content[:_SHOWN_CHARS], is_urgent=True)


def topic(level: str, place_id: str) -> str:
    """What the phones of who lives in a place follow: `village-V17`. Other characters are percent-encoded."""
    return quote(f"{level}-{place_id}", safe="").replace("~", "%7E")


def job_id(job: Job) -> str:
    """The field of a job: the same for the same push to the same people."""
    whose = job.topic or job.user_id
    about = job.push.data.get("messageId") or job.push.data.get("broadcastId") or ""
    return f"{whose}\n{job.push.collapse}\n{about}"


def settled(job: Job, fates: Sequence[Fate], now_ms: int) -> Job | None:
    """What is still to do of a job whose tokens (or topic) met these fates; None when nothing is."""
    again = tuple(token for token, fate in zip(job.tokens, fates, strict=False) if fate is Fate.RETRY)
    is_left = bool(again) or (bool(job.topic) and Fate.RETRY in fates)
    if not is_left or job.tries + 1 >= _TRIES:
        return None
    wait_s = min(_RETRY_S[0] * 2**job.tries, _RETRY_S[1])
    return msgspec.structs.replace(
        job, tokens=again, tries=job.tries + 1, not_before_ms=now_ms + wait_s * 1000, is_sending=False
    )


def _collapse(conversation_id: str) -> str:
    """Ids of people are no business of who carries a push."""
    return hashlib.sha256(conversation_id.encode()).hexdigest()[:_COLLAPSE_CHARS]
