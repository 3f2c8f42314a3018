"""promised: what of a History is under the promises, if the broker lost its memory at some moments.

Only `sent` survives that. A place that a message was given before, and that nobody was ever told is in the store
(`sent` or further), may be gone: a message that was only `queued` with it, and its place given to another one.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tests.support.history.record import History

_STORED: Final = frozenset({"sent", "delivered", "read"})

Place = tuple[str, int]


def promised(history: History, losses_ms: Sequence[int]) -> tuple[History, set[str]]:
    """The history without those places, and the ids of messages that had one of them. Pure."""
    if not losses_ms:
        return history, set()
    last_loss = max(losses_ms)
    stored: set[Place] = set()
    first_ms: dict[Place, int] = defaultdict(lambda: last_loss + 1)
    for place, at_ms, status in _evidence(history):
        first_ms[place] = min(first_ms[place], at_ms)
        if status in _STORED:
            stored.add(place)
    outside = {place for place, at_ms in first_ms.items() if at_ms <= last_loss and place not in stored}
    kept = replace(
        history,
        sent=[
            replace(sent, answer=None)
            if sent.accepted and sent.answer and (sent.answer["messageId"], sent.answer["seq"]) in outside
            else sent
            for sent in history.sent
        ],
        sightings=[one for one in history.sightings if (one.message_id, one.seq) not in outside],
        statuses=[one for one in history.statuses if (one.message_id, one.seq) not in outside],
    )
    return kept, {message_id for message_id, _ in outside}


def _evidence(history: History) -> list[tuple[Place, int, str | None]]:
    """Every time somebody heard of a place, when, and how far its message had come."""
    found: list[tuple[Place, int, str | None]] = []
    for sent in history.sent:
        if sent.accepted and sent.answer is not None:
            place = (sent.answer["messageId"], sent.answer["seq"])
            found.append((place, sent.answered_ms or sent.at_ms, sent.answer["status"]))
    found += [((one.message_id, one.seq), one.at_ms, None) for one in history.sightings]
    found += [((one.message_id, one.seq), one.at_ms, one.status) for one in history.statuses]
    return found
