"""Somebody types: told to the others in the conversation, now or not at all.

It reaches whom a message would reach. Nothing is kept: those who are told forget it by themselves.
"""

from collections.abc import Sequence
from typing import Final

from libs.clock import now_ms
from libs.wire import names, payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Typing, TypingNotice
from services.router import answers, permission
from services.router.conversations import Conversations
from services.router.people import People
from services.router.routing import Saying, ToReaders

# Older than this, what is said of typing is no longer so.
_LATE_MS: Final = 3000


class TypingNotices:
    """Says who types. Raises `Refusal` and `StoreAway`."""

    def __init__(self, people: People, conversations: Conversations, *, members_max: int) -> None:
        self._people = people
        self._conversations = conversations
        self._members_max = members_max

    async def say(self, partition: int, frame: Typing, *, is_replay: bool) -> Sequence[Saying]:
        """The answer, and the notice to the others; in a large group, only the answer."""
        if is_replay or now_ms() - frame.at_ms > _LATE_MS:
            raise Refusal(Code.OVERLOADED)
        await self._check(frame)
        others = await self._conversations.participants(frame.conversation_id) - {frame.user_id}
        sayings: list[Saying] = [answers.accepted(partition, frame.origin, payloads.Ok())]
        if len(others) < self._members_max:
            notice = TypingNotice(
                (), frame.conversation_id, frame.user_id, frame.user_name, frame.is_typing, frame.at_ms
            )
            sayings.append(ToReaders(partition, tuple(sorted(others)), notice))
        return sayings

    async def _check(self, frame: Typing) -> None:
        """May this user be seen typing here?"""
        await self._conversations.check_participant(frame.user_id, frame.conversation_id)
        pair = names.direct_pair(frame.conversation_id)
        if pair is None:
            return
        if names.is_pseudonymous(frame.conversation_id):
            raise Refusal(Code.ACCESS_DENIED)
        await self._people.load(pair, ())
        other = pair[0] if pair[1] == frame.user_id else pair[1]
        permission.check_direct(self._people.user(frame.user_id), self._people.user(other))
