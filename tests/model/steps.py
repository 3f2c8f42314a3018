"""What may happen next. A step is what one script, one commit or one pipeline does at once; between any two steps
anything else may happen. Pure. One long file, as it is read beside the code that it is of.

`steps` gives every step of a state with what it is called; a name with a `!` is a fault, or a person's impatience.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from tests.model.world import (
    DELIVERED,
    NOBODY,
    QUEUED,
    REFUSED,
    SENT,
    STATUSES,
    UNKNOWN,
    VOID,
    Answer,
    Batch,
    Bounds,
    Broker,
    Emit,
    Entry,
    Owed,
    People,
    Router,
    Section,
    State,
    Status,
    Store,
    Verdict,
    Without,
)

Step = tuple[str, State]
# One decided and waiting, one decided and not yet put, beside the one that is completed.
_DECIDED_MAX: Final = 2
# A person who gets no answer tries again; more often than this tells nothing new.
_ATTEMPTS_MAX: Final = 4
# So often a partition changes hands, and so much is written, only where something goes round in a circle.
_TOKENS_MAX: Final = 8
_ENTRIES_MAX: Final = 12

T = TypeVar("T")


def steps(state: State, without: Without = Without.NOTHING) -> Iterator[Step]:
    """Everything that may happen next."""
    yield from _people(state)
    for number, router in enumerate(state.routers):
        yield from _router(state, number, router, without)
    yield from _gateway(state, without)
    yield from _mending(state)
    yield from _faults(state, without)


# --- people -----------------------------------------------------------------------------------


def _people(state: State) -> Iterator[Step]:
    people = state.people
    is_quiet = _is_quiet(state)
    for message, attempts in enumerate(people.attempts):
        if attempts == 0:
            yield f"asha sends {_name(message)}", _send(state, message)
        elif people.told[message] < SENT and attempts < _ATTEMPTS_MAX:
            if is_quiet and (not people.told[message] or state.was_cut or state.was_lost):
                yield f"asha, without an answer, sends {_name(message)} again", _send(state, message)
            elif state.left.resends:
                left = state.left._replace(resends=state.left.resends - 1)
                yield f"asha sends {_name(message)} again at once!", _send(state, message)._replace(left=left)
    if not (state.left.has_reader and state.left.confirms):
        return
    for emit in people.shown:
        if not people.confirmed >> emit.seq & 1 and state.next_entry <= _ENTRIES_MAX:
            confirmed = people._replace(confirmed=people.confirmed | 1 << emit.seq)
            entry = Entry(state.next_entry, is_send=False, what=emit.seq, attempt=0)
            yield f"ravi's phone confirms {emit.seq}", _append(state._replace(people=confirmed), entry)
    if not state.store.is_away and (due := _due(state)) and (people.must_sync or (is_quiet and state.was_lost)):
        yield "ravi signs in: a page of what is due", state._replace(people=_shown_page(people, due))


def _send(state: State, message: int) -> State:
    attempt = state.people.attempts[message] + 1
    people = state.people._replace(
        attempts=_with(state.people.attempts, message, attempt),
        open_attempts=_with(state.people.open_attempts, message, state.people.open_attempts[message] | 1 << attempt),
    )
    return _append(state._replace(people=people), Entry(state.next_entry, is_send=True, what=message, attempt=attempt))


def _append(state: State, entry: Entry) -> State:
    broker = state.broker._replace(inbound=(*state.broker.inbound, entry))
    return state._replace(broker=broker, next_entry=state.next_entry + 1)


def _due(state: State) -> list[Emit]:
    """`DuePages.page`: past the receipts that the store or the journal has."""
    has = state.store.receipt | state.broker.journal
    return [Emit(m, seq, is_saved=True) for seq, m in state.store.log if m != VOID and not has >> seq & 1]


def _shown_page(people: People, due: Sequence[Emit]) -> People:
    confirmed = people.confirmed
    for emit in due:
        confirmed &= ~(1 << emit.seq)  # it comes again, and is confirmed again
    return people._replace(shown=_shown(people.shown, due), confirmed=confirmed, must_sync=False)


def _shown(shown: tuple[Emit, ...], more: Sequence[Emit]) -> tuple[Emit, ...]:
    return tuple(sorted({*shown, *more}))


def _is_quiet(state: State) -> bool:
    """Nothing is on its way to anybody."""
    return (
        not state.broker.inbound
        and not state.broker.downlink
        and state.broker.downlink is not None
        and not state.store.is_away
        and all(router.is_idle for router in state.routers)
    )


# --- routers ----------------------------------------------------------------------------------


def _router(  # noqa: C901, PLR0912 - a list of what a router does
    state: State, number: int, router: Router, without: Without
) -> Iterator[Step]:
    name = f"r{number + 1}"
    lease = state.broker.lease
    if router.is_cut and Without.START_OVER_WHEN_CUT not in without:
        yield f"{name} finds its connection gone", _start_over(state, number)
        if router.decided and router.decided[0].stage == "decided":
            yield from _complete(state, number, router, without)
        return
    if not router.token:
        if lease[1] in (-1, number) and state.newest_token < _TOKENS_MAX:
            yield f"{name} takes the lease", _take_lease(state, number, without)
        if router.orphans and not state.store.is_away:
            yield f"{name} saves receipts of a partition it lost", _save_orphans(state, number)
        return
    if lease != (router.token, number):
        yield f"{name} finds its lease gone", _start_over(state, number)
    # Paused for longer than a lease lives, it knows by its own clock; of a broker that lost the lease it knows nothing.
    is_current = not router.is_lapsed or Without.READ_WHILE_CURRENT in without
    if is_current and router.reading is None and len(router.decided) <= _DECIDED_MAX:
        there = tuple(entry for entry in state.broker.inbound if entry.id > router.position)
        # However many there are, it may have come before the others.
        for entries in {there[:1], there} - {()}:
            yield (
                f"{name} reads {_names(entries)}, and looks for it in the store",
                _look(state, number, entries, without),
            )
    if router.reading is not None:
        yield f"{name} orders: order.lua", _order(state, number, without)
    if router.decided and not router.is_unparking:
        yield from _complete(state, number, router, without)
    if router.parked and not state.store.is_away:
        if not router.is_unparking:
            yield f"{name} saves what was parked", _save_parked(state, number, without)
        else:
            yield f"{name} publishes what was parked", _publish_parked(state, number, without)
    if router.owed is not None:
        yield f"{name} acknowledges: acknowledge.lua", _acknowledge(state, number, without)
    elif router.journal and not state.store.is_away:
        yield f"{name} saves receipts", _save_receipts(state, number)


def _complete(state: State, number: int, router: Router, without: Without) -> Iterator[Step]:
    name, batch = f"r{number + 1}", router.decided[0]
    if batch.stage == "decided" and Without.SAVE_BEFORE_ACKNOWLEDGE in without:
        yield f"{name} acknowledges before it saves", _trim_early(state, number)
    elif batch.stage == "decided" and Without.SAVE_BEFORE_PUBLISH in without and not state.store.is_away:
        yield f"{name} publishes before it saves", _publish(state, number, "published", without)
    elif batch.stage in ("decided", "trimmed"):
        yield f"{name} saves", _save(state, number, without)
    elif batch.stage == "published":
        yield f"{name} saves after it published", _save(state, number, without)
    elif batch.stage == "saved" and Without.PUBLISH_BEFORE_ACKNOWLEDGE in without and router.owed is None:
        yield f"{name} acknowledges before it publishes", _acknowledge_early(state, number, without)
    else:
        yield f"{name} publishes", _publish(state, number, "", without)


def _take_lease(state: State, number: int, without: Without) -> State:
    """`lease.lua`, and `Worker._arrive`. The clock's part: a token is above any that was ever given."""
    above = 0 if Without.TOKENS_FROM_THE_CLOCK in without else state.newest_token
    token = max(above, state.broker.lease_token) + 1
    broker = state.broker._replace(lease=(token, number), lease_token=token)
    newest = broker.inbound[-1].id if broker.inbound else 0
    old = state.routers[number]
    router = Router(
        token,
        position=newest if Without.REPLAY_FROM_THE_BEGINNING in without else 0,
        answered_up_to=newest,
        journal=broker.journal,
        orphans=0 if not state.store.is_away else old.orphans,
    )
    store = state.store
    if not store.is_away:
        store = store._replace(receipt=store.receipt | old.orphans)
    state = state._replace(broker=broker, store=store, newest_token=max(token, state.newest_token))
    return _put(state, number, router)


def _save_orphans(state: State, number: int) -> State:
    router = state.routers[number]
    store = state.store._replace(receipt=state.store.receipt | router.orphans)
    return _put(state._replace(store=store), number, router._replace(orphans=0))


def _start_over(state: State, number: int) -> State:
    """`Worker.lose`: all is forgotten but the receipts."""
    router = state.routers[number]
    return _put(state, number, Router(orphans=router.orphans | router.journal | router.unjournaled))


def _look(state: State, number: int, entries: tuple[Entry, ...], without: Without) -> State:
    """`Worker._read_batch`, and the first half of `Delivery.decide`: what is on its way, what is in the store."""
    router, store = state.routers[number], state.store
    at_hand = dict(router.unsaved if Without.SAVED_UNTIL_ACKNOWLEDGED in without else router.saved + router.unsaved)
    found = dict(router.saved)
    verdicts = []
    last_seq = router.last_seq
    for entry in entries:
        if not entry.is_send:
            continue
        message = entry.what
        if message in at_hand:
            verdict = Verdict(message, entry.attempt, entry.id, at_hand[message], was_placed=True)
        elif not store.is_away and store.seq_of(message):
            verdict = Verdict(message, entry.attempt, entry.id, store.seq_of(message), was_placed=True)
            found[message] = verdict.seq
        else:
            verdict = Verdict(message, entry.attempt, entry.id, 0)
        verdicts.append(verdict)
        if not store.is_away and last_seq == UNKNOWN:
            last_seq = store.last_seq
    is_replay = entries[0].id <= router.answered_up_to
    away = bool(router.parked) or store.is_away
    batch = Batch(entries, is_replay, "looked", away, tuple(verdicts))
    router = router._replace(reading=batch, position=batch.last_id, last_seq=last_seq, saved=_items(found))
    return _put(state, number, router)


def _order(state: State, number: int, without: Without) -> State:
    """`order.lua` for all that have no place yet, and `Delivery._place`."""
    router, broker = state.routers[number], state.broker
    batch = router.reading
    assert batch is not None
    is_asking = any(batch.is_replay or not verdict.seq for verdict in batch.verdicts)
    if is_asking and broker.lease != (router.token, number) and Without.FENCE_IN_ORDER not in without:
        return _start_over(state, number)
    assigned, recent, unsaved = dict(broker.assigned), dict(broker.recent), dict(router.unsaved)
    assigned_by, seq_by = dict(broker.assigned_by), broker.seq_by
    last, saved = broker.seq, router.last_seq
    is_rising = batch.is_replay and Without.PLACES_RISE_WITH_THE_STREAM not in without
    verdicts = []
    for verdict in batch.verdicts:
        message = verdict.message
        given = assigned.get(message, 0)
        if is_rising and given and verdict.entry < assigned_by[message]:
            verdicts.append(verdict._replace(seq=0, is_later=True))
            continue
        if verdict.seq:
            verdicts.append(verdict)
            continue
        if given and (given > saved or batch.is_store_away or Without.PLACES_ABOVE_THE_STORE in without):
            is_kept, seq = True, given
        elif batch.is_store_away and message in recent and Without.RECENT_PLACES not in without:
            verdicts.append(verdict._replace(seq=recent[message], is_recent=True))
            continue
        elif (not last and saved == UNKNOWN) or (is_rising and verdict.entry < broker.seq_by):
            verdicts.append(verdict)  # unknown: refused, and sent again
            continue
        else:
            floor = 0 if Without.COUNTER_FROM_THE_STORE in without else saved
            is_kept, seq = False, max(last, floor) + 1
            last, seq_by = seq, verdict.entry
            if Without.REMEMBERED_PLACES not in without:
                assigned[message], assigned_by[message] = seq, verdict.entry
        if message in unsaved:
            verdicts.append(verdict._replace(seq=unsaved[message], was_placed=is_kept))
        else:
            unsaved[message] = seq
            verdicts.append(verdict._replace(seq=seq, was_placed=is_kept, is_new=True))
    broker = broker._replace(seq=last, seq_by=seq_by, assigned=_items(assigned), assigned_by=_items(assigned_by))
    batch = batch._replace(stage="decided", verdicts=tuple(verdicts))
    router = router._replace(reading=None, decided=(*router.decided, batch), unsaved=_items(unsaved))
    return _put(state._replace(broker=broker), number, router)


def _save(state: State, number: int, without: Without) -> State:
    """The first step of `Delivery.complete`. While batches are parked nothing is saved before them."""
    router = state.routers[number]
    batch = router.decided[0]
    is_new = any(verdict.is_new for verdict in batch.verdicts)
    if router.parked or (is_new and state.store.is_away):
        return _put(state, number, router._replace(decided=(batch._replace(stage="away"), *router.decided[1:])))
    store, router, (batch,), is_taken = _saved(state.store, router, (batch,), without)
    if is_taken:
        return _start_over(_put(state._replace(store=store), number, router), number)
    if batch.stage == "published":
        router = router._replace(decided=router.decided[1:], owed=_owing(router, (batch,)))
        return _put(state._replace(store=store), number, router)
    batch = batch._replace(stage="saved")
    return _put(state._replace(store=store), number, router._replace(decided=(batch, *router.decided[1:])))


def _saved(
    store: Store, router: Router, batches: tuple[Batch, ...], without: Without
) -> tuple[Store, Router, tuple[Batch, ...], bool]:
    """`Messages.save` in one commit, and `Delivery._settle` of each outcome."""
    log, unsaved, last_seq = dict(store.log), dict(router.unsaved), router.last_seq
    at_hand = dict(router.saved)
    is_taken = False
    settled = []
    for batch in batches:
        verdicts = []
        for verdict in batch.verdicts:
            if not verdict.is_new:
                verdicts.append(verdict)
                continue
            message, seq = verdict.message, verdict.seq
            stands_at = next((place for place, there in log.items() if there == message), 0)
            if Without.ONE_KEY_ONE_PLACE in without:
                stands_at = 0
            is_free = seq not in log or Without.ONE_PLACE_ONE_MESSAGE in without
            if stands_at in (0, seq) and (is_free or log[seq] == message):  # SAVED
                log[seq] = message
                at_hand[message] = seq
            elif not stands_at:
                is_taken = True
                continue
            else:  # REPEAT
                if Without.VOID_PLACES not in without:
                    log.setdefault(seq, VOID)
                verdict = verdict._replace(seq=stands_at, is_new=False)  # noqa: PLW2901 - what it became
            unsaved.pop(message, None)
            last_seq = max(last_seq, seq)
            verdicts.append(verdict)
        settled.append(batch._replace(verdicts=tuple(verdicts)))
    store = store._replace(log=_items(log))
    router = router._replace(unsaved=_items(unsaved), saved=_items(at_hand), last_seq=last_seq)
    return store, router, tuple(settled), is_taken


def _publish(  # noqa: C901, PLR0912 - as the code says it
    state: State, number: int, then: str, without: Without
) -> State:
    """`Sayings.of_batch` and the pipeline that says it; then what was saved is owed, what was not is parked."""
    router = state.routers[number]
    batch = router.decided[0]
    is_saved = batch.stage != "away"
    frames: list[Answer | Status | Emit] = []
    unsaved = dict(router.unsaved)
    router = _loaded(state, router) if batch.verdicts else router
    untold = list(router.untold)
    for verdict in batch.verdicts:
        message = verdict.message
        if verdict.is_later:
            continue
        if not verdict.seq:
            frames += [Answer(message, verdict.attempt, REFUSED), Status(message, REFUSED, to_all=True)]
            continue
        status = QUEUED if message in unsaved and not is_saved else SENT
        # An earlier owner may have told more than this: how far it has come is told once the replay is through.
        is_retold = batch.is_replay and verdict.was_placed and Without.STATUSES_ONLY_RISE not in without
        frames.append(Answer(message, verdict.attempt, status))
        if verdict.is_new and not is_retold:
            frames.append(Status(message, status, to_all=batch.is_replay and verdict.was_placed and status != QUEUED))
        elif status != QUEUED and batch.is_replay and verdict.was_placed:
            untold.append(message)
        if not verdict.is_recent and (verdict.is_new or not _receipt(router) >> verdict.seq & 1):
            frames.append(Emit(message, verdict.seq, is_saved=message not in unsaved))
    for entry in batch.entries:
        if not entry.is_send:
            router, said = _confirm(state, router, entry.what)
            frames += said
    router, said = _tell(state, router._replace(untold=tuple(untold)), batch)
    frames += said
    broker = _said(state.broker, router, frames)
    rest = router.decided[1:]
    if then:
        router = router._replace(decided=(batch._replace(stage=then), *rest))
    elif batch.stage == "acknowledged":
        router = router._replace(decided=rest)
    elif is_saved:
        router = router._replace(decided=rest)
        router = router._replace(
            owed=_owing(router, (batch,)), unjournaled=0, journal=router.journal | router.unjournaled
        )
    else:
        verdicts = tuple(verdict._replace(is_queued=verdict.is_new) for verdict in batch.verdicts)
        router = router._replace(decided=rest, parked=(*router.parked, batch._replace(verdicts=verdicts)))
        if Without.PARKED_STAYS_ON_THE_STREAM in without:
            broker = _trimmed(broker, batch.last_id)
    return _put(state._replace(broker=broker), number, router)


def _save_parked(state: State, number: int, without: Without) -> State:
    router = state.routers[number]
    store, router, parked, is_taken = _saved(state.store, router, router.parked, without)
    state = _put(state._replace(store=store), number, router._replace(parked=parked, is_unparking=True))
    return _start_over(state, number) if is_taken else state


def _publish_parked(state: State, number: int, without: Without) -> State:
    """`Sayings.of_unparked`: `sent`, or how far it has come, and the message to who has not confirmed it."""
    router = _loaded(state, state.routers[number])
    frames: list[Answer | Status | Emit] = []
    for batch in router.parked:
        for verdict in batch.verdicts:
            if not verdict.is_queued:
                continue
            has = _receipt(router) >> verdict.seq & 1
            if batch.is_replay and verdict.was_placed and Without.STATUSES_ONLY_RISE not in without:
                router = router._replace(untold=(*router.untold, verdict.message))
            else:
                frames.append(Status(verdict.message, SENT, to_all=True))
                if has:
                    frames.append(Status(verdict.message, DELIVERED, to_all=True))
            if not has:
                frames.append(Emit(verdict.message, verdict.seq, is_saved=True))
        router, said = _tell(state, router, batch)
        frames += said
    broker = _said(state.broker, router, frames)
    owed = _owing(router, router.parked)
    router = router._replace(
        parked=(), is_unparking=False, owed=owed, unjournaled=0, journal=router.journal | router.unjournaled
    )
    return _put(state._replace(broker=broker), number, router)


def _owing(router: Router, batches: tuple[Batch, ...]) -> Owed:
    """`Owed.add`: together with what is owed already."""
    owed = router.owed or Owed(0, (), 0)
    placed = tuple((verdict.message, verdict.seq) for batch in batches for verdict in batch.verdicts if verdict.seq)
    return Owed(batches[-1].last_id, owed.placed + placed, router.unjournaled or owed.receipt)


def _acknowledge(state: State, number: int, without: Without) -> State:
    """`acknowledge.lua`."""
    router, broker = state.routers[number], state.broker
    owed = router.owed
    assert owed is not None
    if broker.lease != (router.token, number) and Without.FENCE_IN_ACKNOWLEDGE not in without:
        return _start_over(state, number)
    broker = _settled(broker, owed.placed)
    state = state._replace(noted=state.noted | owed.receipt)
    if owed.receipt and Without.RECEIPTS_IN_THE_JOURNAL not in without:
        broker = broker._replace(journal=owed.receipt)
    is_too_far = Without.TRIM_UP_TO_WHAT_WAS_READ in without
    newest = state.next_entry if is_too_far else owed.up_to
    done = {message for message, _ in owed.placed}
    saved = tuple((message, seq) for message, seq in router.saved if message not in done)
    router = router._replace(owed=None, saved=saved)
    return _put(state._replace(broker=_trimmed(broker, newest)), number, router)


def _settled(broker: Broker, placed: Sequence[tuple[int, int]]) -> Broker:
    assigned, recent, seq, seq_by = dict(broker.assigned), dict(broker.recent), broker.seq, broker.seq_by
    assigned_by = dict(broker.assigned_by)
    for message, place in placed:
        assigned.pop(message, None)
        assigned_by.pop(message, None)
        recent[message] = place
        if seq == place:
            seq = seq_by = 0
    return broker._replace(
        seq=seq, seq_by=seq_by, assigned=_items(assigned), assigned_by=_items(assigned_by), recent=_items(recent)
    )


def _trimmed(broker: Broker, up_to: int) -> Broker:
    return broker._replace(inbound=tuple(entry for entry in broker.inbound if entry.id > up_to))


def _trim_early(state: State, number: int) -> State:
    router = state.routers[number]
    batch = router.decided[0]
    router = router._replace(decided=(batch._replace(stage="trimmed"), *router.decided[1:]))
    return _put(state._replace(broker=_trimmed(state.broker, batch.last_id)), number, router)


def _acknowledge_early(state: State, number: int, without: Without) -> State:
    router = state.routers[number]
    batch = router.decided[0]
    state = _put(state, number, router._replace(owed=_owing(router, (batch,))))
    state = _acknowledge(state, number, without)
    if not state.routers[number].token:
        return state
    router = state.routers[number]
    return _put(state, number, router._replace(decided=(batch._replace(stage="acknowledged"), *router.decided[1:])))


def _save_receipts(state: State, number: int) -> State:
    """`Worker._flush_receipts`: saved, and if the lease is still ours, out of the journal (which the code leaves to the
    next one: that a receipt is in both for a while breaks nothing)."""
    router, broker = state.routers[number], state.broker
    store = state.store._replace(receipt=state.store.receipt | router.journal)
    if broker.lease == (router.token, number) and broker.journal == router.journal:
        broker = broker._replace(journal=0)
    return _put(state._replace(broker=broker, store=store), number, router._replace(journal=0))


def _loaded(state: State, router: Router) -> Router:
    """Ravi's receipt at hand, if the store can tell it."""
    if router.is_loaded or state.store.is_away:
        return router
    return router._replace(is_loaded=True, known=state.store.receipt | _receipt(router))


def _receipt(router: Router) -> int:
    return router.known if router.is_loaded else router.unjournaled or router.journal


def _confirm(state: State, router: Router, seq: int) -> tuple[Router, list[Answer | Status | Emit]]:
    router = _loaded(state, router)
    before = _receipt(router)
    after = before | 1 << seq
    if after == before:
        return router, []
    router = router._replace(is_loaded=True, known=after, unjournaled=after)
    message = next((m for place, m in state.store.log if place == seq), VOID)
    is_unsaved = any(m == message for m, _ in router.unsaved)
    if message == VOID or is_unsaved or state.store.is_away:
        return router, []
    return router, [Status(message, DELIVERED, to_all=True)]


def _tell(state: State, router: Router, batch: Batch) -> tuple[Router, list[Answer | Status | Emit]]:
    """`Sayings._of_untold`."""
    if not router.untold or batch.last_id < router.answered_up_to:
        return router, []
    told: list[Answer | Status | Emit] = [
        Status(message, _how_far(state, router, message), to_all=True) for message in router.untold
    ]
    return router._replace(untold=()), told


def _how_far(state: State, router: Router, message: int) -> int:
    seq = state.store.seq_of(message)
    return DELIVERED if _receipt(router) >> seq & 1 else SENT


def _said(broker: Broker, router: Router, frames: Sequence[Answer | Status | Emit]) -> Broker:
    """XADD NOMKSTREAM: a gateway without a stream is told nothing."""
    if not frames or broker.downlink is None:
        return broker
    return broker._replace(downlink=(*broker.downlink, Section(router.token, tuple(frames))))


# --- the gateway ------------------------------------------------------------------------------


def _gateway(state: State, without: Without) -> Iterator[Step]:
    downlink = state.broker.downlink
    if not downlink:
        return
    section, rest = downlink[0], downlink[1:]
    replica = state.replica
    if replica is not None and replica.downlink:  # what is read once is not read again, on whatever server
        replica = replica._replace(downlink=replica.downlink[1:])
    state = state._replace(broker=state.broker._replace(downlink=rest), replica=replica)
    if section.token >= state.gateway_token or Without.FENCE_AT_THE_GATEWAY in without:
        state = state._replace(gateway_token=max(section.token, state.gateway_token))
        yield f"the gateway takes what was said under token {section.token}", _taken(state, section)
    else:
        yield f"the gateway refuses what was said under token {section.token}", state


def _taken(state: State, section: Section) -> State:
    for frame in section.frames:
        match frame:
            case Answer(message, attempt, status):
                opened = state.people.open_attempts
                # A second answer is not read. What is sent again is answered by what is known then, which may be less.
                if opened[message] >> attempt & 1:
                    people = state.people._replace(
                        open_attempts=_with(opened, message, opened[message] & ~(1 << attempt))
                    )
                    told = _with(people.told, message, max(people.told[message], status))
                    state = state._replace(people=people._replace(told=told))
            case Status(message, status, to_all):
                state = _told(state, message, status, is_other=True)
                if to_all:
                    state = _told(state, message, status, is_other=False)
            case Emit() if state.left.has_reader:
                shown = state.people.shown
                if (
                    shown
                    and frame.seq < max(emit.seq for emit in shown)
                    and all(e.message != frame.message for e in shown)
                ):
                    why = f"ravi was shown {frame.seq} after what stands behind it"
                    state = state._replace(took_early=state.took_early or why)
                state = state._replace(people=state.people._replace(shown=_shown(state.people.shown, [frame])))
    return state


def _told(state: State, message: int, status: int, *, is_other: bool) -> State:
    told = state.people.told_other if is_other else state.people.told
    before, whose = told[message], "asha's other phone" if is_other else "asha's phone"
    told = _with(told, message, max(before, status))
    people = state.people._replace(told_other=told) if is_other else state.people._replace(told=told)
    state = state._replace(people=people)
    if status >= before:
        return state
    why = f"{whose} was told that {_name(message)} is {STATUSES[before]}, then {STATUSES[status]}"
    sent_back = why if status < SENT <= before else ""
    return state._replace(took_back=state.took_back or why, took_sent_back=state.took_sent_back or sent_back)


# --- what goes wrong, and what mends it -------------------------------------------------------


def _mending(state: State) -> Iterator[Step]:
    """What time brings by itself."""
    token, owner = state.broker.lease
    if owner >= 0 and state.routers[owner].token != token:
        yield f"the lease of r{owner + 1} lapses", state._replace(broker=state.broker._replace(lease=NOBODY))
    if state.store.is_away:
        yield "the store is back", state._replace(store=state.store._replace(is_away=False))
    if state.broker.downlink is None:
        people = state.people._replace(must_sync=True)
        yield "the gateway revives", state._replace(broker=state.broker._replace(downlink=()), people=people)


def _faults(state: State, without: Without) -> Iterator[Step]:  # noqa: C901 - a list
    left, broker = state.left, state.broker
    token, owner = broker.lease
    if left.crashes:
        for number, router in enumerate(state.routers):
            if router.token:
                after = state._replace(left=left._replace(crashes=left.crashes - 1))
                yield f"r{number + 1} is killed!", _put(after, number, Router())
    if left.lapses and owner >= 0 and state.routers[owner].token == token:
        after = state._replace(left=left._replace(lapses=left.lapses - 1), broker=broker._replace(lease=NOBODY))
        paused = state.routers[owner]._replace(is_lapsed=True)
        yield f"r{owner + 1} is paused, and its lease lapses!", _put(after, owner, paused)
    if left.wipes:
        yield "the broker is wiped!", _lost(state, Broker(downlink=None), left._replace(wipes=left.wipes - 1))
    if left.failovers and state.replica is None:
        yield "the replica has all up to here, and no more!", state._replace(replica=broker)
    if state.replica is not None and state.replica != broker:
        cut = tuple(router._replace(is_cut=bool(router.token)) for router in state.routers)
        spent = left._replace(failovers=left.failovers - 1)
        yield "a failover!", _lost(state._replace(routers=cut), state.replica, spent)
    if left.outages and not state.store.is_away:
        store = state.store._replace(is_away=True)
        yield (
            "the store is away!",
            state._replace(store=store, left=left._replace(outages=left.outages - 1), was_away=True),
        )
    if left.replacements:
        people = state.people._replace(open_attempts=(0,) * len(state.people.attempts), must_sync=True)
        after = state._replace(left=left._replace(replacements=left.replacements - 1), was_cut=True)
        broker = broker._replace(downlink=None)
        yield "the gateway is killed!", after._replace(broker=broker, people=people, gateway_token=0)
    if left.forgets and broker.recent:
        after = state._replace(left=left._replace(forgets=left.forgets - 1), has_forgotten=True)
        yield "twenty minutes pass!", after._replace(broker=broker._replace(recent=()))


def _lost(state: State, broker: Broker, left: Bounds) -> State:
    return state._replace(broker=broker, left=left, replica=None, was_lost=True)


def _put(state: State, number: int, router: Router) -> State:
    return state._replace(routers=_with(state.routers, number, router))


def _with(items: tuple[T, ...], at: int, item: T) -> tuple[T, ...]:
    return (*items[:at], item, *items[at + 1 :])


def _items(found: dict[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(found.items()))


def _name(message: int) -> str:
    return "abcdefgh"[message]


def _names(entries: Sequence[Entry]) -> str:
    return ", ".join(
        f"{_name(entry.what)} ({entry.attempt})" if entry.is_send else f"confirm {entry.what}" for entry in entries
    )
