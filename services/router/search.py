"""Searching: in what the user may read now, as much as a phone can use."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from libs.wire import payloads
from libs.wire.frames import Search
from services.router import answers, bodies
from services.router.conversations import Conversations
from services.router.routing import Saying
from services.router.store import Message, Store

# Results go out twice, as answer and as event, and must leave room in a socket's outbox.
_MAX_BYTES: Final = 128 * 1024


async def answer(store: Store, conversations: Conversations, partition: int, frame: Search) -> Sequence[Saying]:
    """The newest messages that have the words. Raises `Refusal`, `StoreAway`."""
    place, reader = frame.conversation_id, frame.user_id
    if place is not None:
        place = await conversations.resolve(frame.bare_id) or place
        # Who began it under a pseudonym is in it as that.
        reader = await conversations.standing(frame.user_id, place)
    found = await store.search(reader, frame.query, frame.limit, conversation_id=place)
    body = payloads.SearchResults(frame.query, _that_fit(found), place)
    return [answers.accepted(partition, frame.origin, body, ("search_results", payloads.encode(body)))]


def _that_fit(messages: Iterable[Message]) -> list[msgspec.Raw]:
    results: list[msgspec.Raw] = []
    size = 0
    for message in messages:
        body = bodies.new_message(message)
        size += len(body)
        if results and size > _MAX_BYTES:
            break
        results.append(msgspec.Raw(body))
    return results
