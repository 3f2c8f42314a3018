"""check: what in a History breaks a promise of ARCHITECTURE. Pure: a History in, a Report out.

Order is judged by what the server pushed (`new_message`, `offline_messages`), each message at its first
sighting by a device. Four things are in no order by right, and left out: what the device asked for
itself (`conversation_history`), its own messages that come back to it, emergencies, which
`offline_messages` brings before the rest, and what was queued while the store was away before the device
signed in: it comes when the store is back, behind what was live meanwhile.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from libs.wire import names
from tests.support.history.record import OFFLINE_MESSAGES, History, Sent, Sighting
from tests.support.history.report import Report

# `failed` may follow `queued` and, when the message is sent again, be followed by `sent`; what was
# reported `sent` cannot fail any more.
_RANK: Final = {"queued": 0, "failed": 1, "sent": 2, "delivered": 3, "read": 4}


@dataclass(frozen=True)
class Message:
    """A message the server accepted: answered `sent` or `queued`, or told so in a status."""

    message_id: str
    conversation_id: str
    seq: int
    user: str
    client_id: str

    def __str__(self) -> str:
        return f"{self.conversation_id} #{self.seq} ({self.user} {self.client_id!r}, {self.message_id})"


Expected = Mapping[str, Collection[str]] | Callable[[Message], Collection[str]]
"""The devices that must have seen each message: by conversation id, or by a rule for each message.

The device that sent a message is never asked for it.
"""


def check(history: History, expected: Expected) -> Report:
    """Compare `history` with what was promised, and with who should have received what.

    Raises ValueError if `expected` says nothing of a conversation in which a message was accepted.
    """
    accepted = {message.message_id: message for message in _accepted(history)}
    tries = _tries_by_message(history)
    answered = {(message.user, message.client_id) for message in accepted.values()}
    silent = {key: sents for key, sents in tries.items() if key not in answered}
    first, again = _first_sightings(history)
    return Report(
        lost=tuple(_lost(history, accepted.values(), expected, tries)),
        doubled=tuple(_doubled(history)),
        out_of_order=tuple(_out_of_order(history, first)),
        gaps=tuple(_gaps(history)),
        went_back=tuple(_went_back(history)),
        strays=tuple(_strays(history, first)),
        malformed=(*history.malformed, *_unknown_statuses(history)),
        messages=len(accepted),
        refused=tuple(f"{user} {client_id!r}" for (user, client_id), s in silent.items() if any(t.refused for t in s)),
        unanswered=tuple(
            f"{user} {client_id!r}" for (user, client_id), s in silent.items() if not any(t.refused for t in s)
        ),
        sightings=len(history.sightings),
        redeliveries=again,
    )


def _accepted(history: History) -> Iterator[Message]:
    """Every time a sender was told that a message is accepted."""
    for sent in history.sent:
        if sent.accepted and sent.answer is not None:
            answer = sent.answer
            user = history.user_of(sent.device)
            yield Message(answer["messageId"], answer["conversationId"], answer["seq"], user, sent.client_id)
    for status in history.statuses:
        if status.status in _RANK and status.status != "failed":
            user = history.user_of(status.device)
            yield Message(status.message_id, status.conversation_id, status.seq, user, status.client_id)


def _sighted(history: History) -> Iterator[Message]:
    for one in history.sightings:
        yield Message(one.message_id, one.conversation_id, one.seq, one.sender_id, one.client_id)


def _tries_by_message(history: History) -> dict[tuple[str, str], list[Sent]]:
    tries: dict[tuple[str, str], list[Sent]] = defaultdict(list)
    for sent in history.sent:
        tries[history.user_of(sent.device), sent.client_id].append(sent)
    return tries


def _first_sightings(history: History) -> tuple[list[Sighting], int]:
    """Each message at its first sighting by each device, in order; and how many were pushed again."""
    seen: set[tuple[str, str]] = set()
    first: list[Sighting] = []
    again = 0
    for sighting in history.sightings:
        key = (sighting.device, sighting.message_id)
        if key not in seen:
            seen.add(key)
            first.append(sighting)
        elif sighting.pushed:
            again += 1
    return first, again


def _lost(
    history: History,
    accepted: Iterable[Message],
    expected: Expected,
    tries: Mapping[tuple[str, str], list[Sent]],
) -> Iterator[str]:
    seen = {(sighting.device, sighting.message_id) for sighting in history.sightings}
    for message in accepted:
        senders = {sent.device for sent in tries.get((message.user, message.client_id), ())}
        for device in sorted(set(_audience(expected, message)) - senders):
            if (device, message.message_id) not in seen:
                yield f"{device} never saw {message}"


def _audience(expected: Expected, message: Message) -> Collection[str]:
    if callable(expected):
        return expected(message)
    if message.conversation_id not in expected:
        raise ValueError(f"expected says nothing of {message.conversation_id}, where {message} was accepted")
    return expected[message.conversation_id]


def _doubled(history: History) -> Iterator[str]:
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    places: dict[str, set[tuple[str, int]]] = defaultdict(set)
    tenants: dict[tuple[str, int], set[str]] = defaultdict(set)
    for message in (*_accepted(history), *_sighted(history)):
        place = (message.conversation_id, message.seq)
        ids[message.user, message.client_id].add(message.message_id)
        places[message.message_id].add(place)
        tenants[place].add(message.message_id)
    for (user, client_id), some_ids in ids.items():
        if len(some_ids) > 1:
            yield f"{user} {client_id!r} became {len(some_ids)} messages: {', '.join(sorted(some_ids))}"
    for message_id, some_places in places.items():
        if len(some_places) > 1:
            yield f"{message_id} is in {len(some_places)} places: {_list_places(some_places)}"
    for place, some_ids in tenants.items():
        if len(some_ids) > 1:
            yield f"{_list_places([place])} was given to {len(some_ids)} messages: {', '.join(sorted(some_ids))}"


def _list_places(places: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{conversation} #{seq}" for conversation, seq in sorted(places))


def _out_of_order(history: History, first: Iterable[Sighting]) -> Iterator[str]:
    own_tries = {(sent.device, history.user_of(sent.device), sent.client_id) for sent in history.sent}
    # An anonymous sender meets the own message under a pseudonym: then the id of the answer tells.
    own_ids = {(sent.device, sent.answer["messageId"]) for sent in history.sent if sent.accepted and sent.answer}
    queued = _queued(history)
    latest: dict[tuple[str, str], Sighting] = {}
    for sighting in first:
        device = sighting.device
        is_own = (device, sighting.sender_id, sighting.client_id) in own_tries or (
            device,
            sighting.message_id,
        ) in own_ids
        overtakes_by_right = sighting.urgent and sighting.via == OFFLINE_MESSAGES
        if is_own or overtakes_by_right or not sighting.pushed:
            continue
        lane = (device, sighting.conversation_id)
        before = latest.get(lane)
        if before is not None and sighting.seq < before.seq:
            if _was_queued_before_sign_in(history, sighting, queued):
                continue
            yield (
                f"{device} saw {sighting.conversation_id} #{sighting.seq} ({sighting.via}, index {sighting.index})"
                f" after #{before.seq} ({before.via}, index {before.index})"
            )
        else:
            latest[lane] = sighting


def _queued(history: History) -> dict[str, list[int]]:
    """When (by index) somebody was told of each conversation that something in it is only queued."""
    told: dict[str, list[int]] = defaultdict(list)
    for sent in history.sent:
        answer = sent.answer
        if sent.accepted and answer is not None and answer["status"] == "queued" and sent.answered_index is not None:
            told[answer["conversationId"]].append(sent.answered_index)
    for status in history.statuses:
        if status.status == "queued":
            told[status.conversation_id].append(status.index)
    return told


def _was_queued_before_sign_in(history: History, sighting: Sighting, queued: Mapping[str, list[int]]) -> bool:
    """Whether the store was away from before this device signed in until it saw the message, as far as is known.

    That this one was queued its sender may never have heard: that another one was tells as much.
    """
    tries = [
        sent.index
        for sent in history.sent
        if sent.client_id == sighting.client_id and history.user_of(sent.device) == sighting.sender_id
    ]
    began = min(tries, default=sighting.index)
    signed_in = any(device == sighting.device and began < at < sighting.index for device, at in history.signed_in)
    return signed_in and any(began < at < sighting.index for at in queued.get(sighting.conversation_id, ()))


def _gaps(history: History) -> Iterator[str]:
    seqs: dict[str, set[int]] = defaultdict(set)
    for message in (*_accepted(history), *_sighted(history)):
        seqs[message.conversation_id].add(message.seq)
    for conversation_id, found in seqs.items():
        missing = sorted(set(range(1, max(found) + 1)) - found)
        if missing:
            yield f"{conversation_id} has no {_ranges(missing)} of 1-{max(found)}"
        if min(found) < 1:
            yield f"{conversation_id} begins with {min(found)}"


def _ranges(numbers: list[int]) -> str:
    """Rising numbers as `#3, #5-7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"#{run[0]}" if len(run) == 1 else f"#{run[0]}-{run[-1]}" for run in runs)


def _went_back(history: History) -> Iterator[str]:
    told = [(status.index, status.device, status.message_id, status.status, True) for status in history.statuses]
    # The answer to a message sent again repeats what was: it sets a floor, but breaks none.
    told += [
        (sent.answered_index, sent.device, sent.answer["messageId"], sent.answer["status"], False)
        for sent in history.sent
        if sent.accepted and sent.answer is not None and sent.answered_index is not None
    ]
    furthest: dict[tuple[str, str], str] = {}
    for _, device, message_id, status, is_event in sorted(told):
        if status not in _RANK:
            continue
        before = furthest.get((device, message_id))
        if before is None or _RANK[status] >= _RANK[before]:
            furthest[device, message_id] = status
        elif is_event:
            yield f"{device} was told {status!r} of {message_id} after {before!r}"


def _unknown_statuses(history: History) -> Iterator[str]:
    for status in history.statuses:
        if status.status not in _RANK:
            yield f"{status.device}: the status of {status.message_id} is {status.status!r}"
    for sent in history.sent:
        if sent.accepted and sent.answer is not None and sent.answer["status"] not in ("sent", "queued"):
            yield f"{sent.device}: answer to {sent.client_id!r} says {sent.answer['status']!r}"


def _strays(history: History, first: Iterable[Sighting]) -> Iterator[str]:
    for sighting in first:
        pair = names.direct_pair(sighting.conversation_id)
        user = history.users.get(sighting.device)
        if pair is not None and user is not None and user not in pair:
            yield f"{sighting.device} ({user}) saw {sighting.conversation_id} #{sighting.seq}"
