"""What must be so in every state, whatever happened before; and where everything must be able to end. Pure.

Each promise gives what is wrong, in words, or nothing. The two states that the documents exempt are exempt here: a
broker that lost data while the store was away; and a repeat, while it is away, of what was saved more than twenty
minutes before.
"""

from collections.abc import Callable
from typing import Final

from tests.model.world import QUEUED, SENT, VOID, State

Promise = Callable[[State], str]


def _sent_is_saved(state: State) -> str:
    people = state.people
    for message in range(len(people.told)):
        if max(people.told[message], people.told_other[message]) >= SENT and not state.store.seq_of(message):
            return f"message {message} was said to be sent, and is not in the store"
    return ""


def _queued_is_kept(state: State) -> str:
    if state.was_lost:
        return ""
    people, log = state.people, state.broker.inbound
    for message in range(len(people.told)):
        is_kept = state.store.seq_of(message) or any(entry.is_send and entry.what == message for entry in log)
        if max(people.told[message], people.told_other[message]) == QUEUED and not is_kept:
            return f"message {message} was said to be queued, and is nowhere"
    return ""


def _once(state: State) -> str:
    found = [message for _, message in state.store.log if message != VOID]
    return "" if len(found) == len(set(found)) else "the store has a message twice"


def _no_gaps(state: State) -> str:
    """A place may be empty for as long as its message is on its way to it, by the stream."""
    seqs = {seq for seq, _ in state.store.log}
    coming = {entry.what for entry in state.broker.inbound if entry.is_send}
    coming_to = {seq for message, seq in state.broker.assigned if message in coming}
    missing = set(range(1, max(seqs, default=0))) - seqs - coming_to
    return f"the store has seqs {sorted(seqs)}, and nothing will fill {sorted(missing)}" if missing else ""


def _shown_is_saved(state: State) -> str:
    log = dict(state.store.log)
    for emit in state.people.shown:
        if emit.is_saved and log.get(emit.seq) != emit.message:
            return f"ravi was shown message {emit.message} at {emit.seq}, and the store has {log.get(emit.seq)} there"
    return ""


def _one_place(state: State) -> str:
    if (state.was_lost and state.was_away) or state.has_forgotten:
        return ""
    shown = {(emit.seq, emit.message) for emit in state.people.shown}
    places = shown | {(seq, message) for seq, message in state.store.log if message != VOID}
    if len({seq for seq, _ in places}) < len(places):
        return f"a seq was used twice: {sorted(places)}"
    if len({message for _, message in places}) < len(places):
        return f"a message was seen at two places: {sorted(places)}"
    return ""


def _never_back(state: State) -> str:
    """Of what is said by events. A broker that lost data has lost receipts: they are told when they come again.

    A gateway that has just begun does not know which tokens are old.
    """
    if state.has_forgotten:
        return ""
    if state.was_lost or state.was_cut:
        return "" if state.was_away else state.took_sent_back
    return state.took_back


def _due_until_confirmed(state: State) -> str:
    has = state.store.receipt | state.broker.journal
    for router in state.routers:
        has |= router.known | router.journal | router.unjournaled | router.orphans
    ever = 0
    for emit in state.people.shown:
        ever |= 1 << emit.seq
    return f"receipts {has:b} hold what ravi never saw" if has & ~ever else ""


def _noted_is_kept(state: State) -> str:
    """By whom it is taken over: the store, or the journal. An owner's memory dies with it."""
    has = state.store.receipt | state.broker.journal
    if state.was_lost or not state.noted & ~has:
        return ""
    return f"receipts {state.noted:b} were acknowledged, and {has:b} would survive the owner"


PROMISES: Final[dict[str, Promise]] = {
    "what was said to be sent is in the store": _sent_is_saved,
    "what was said to be queued is on the stream or in the store": _queued_is_kept,
    "a message is in the store once": _once,
    "seqs are 1, 2, 3 without a gap": _no_gaps,
    "what anyone has seen is in the store, at that place": _shown_is_saved,
    "a message has one place, a place one message": _one_place,
    "no status goes back": _never_back,
    "due until confirmed": _due_until_confirmed,
    "what was confirmed is not forgotten": _noted_is_kept,
}
TRAP: Final = "everything can still end well"


def broken(state: State) -> str:
    """The first promise that is broken here, and how."""
    for name, promise in PROMISES.items():
        why = promise(state)
        if why:
            return f"{name}: {why}"
    return ""


def has_ended_well(state: State) -> bool:
    """All is sent, saved, answered, shown and confirmed, and nothing is on its way."""
    people, store = state.people, state.store
    messages = range(len(people.told))
    if state.broker.inbound or state.broker.downlink or not all(map(people.attempts.__getitem__, messages)):
        return False
    if not all(people.told[message] >= SENT and store.seq_of(message) for message in messages):
        return False
    if not all(router.is_idle for router in state.routers):
        return False
    has = store.receipt | state.broker.journal
    is_confirming = state.left.has_reader and state.left.confirms
    return not is_confirming or all(has >> store.seq_of(message) & 1 for message in messages)
