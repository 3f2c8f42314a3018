"""Each Lua script of leases and partitions, by effect on real brokers: who may write, and what is written."""

from collections.abc import Sequence
from typing import Any, Final

import pytest

from libs import keys
from libs.broker import Broker, Script
from libs.streams import consumer, leases
from libs.streams.leases import LEASE_TTL_MS
from libs.wire import names
from services.router import partition as partitions
from services.router.partition import Candidate, Partition
from services.router.receipts import journal_field, unpack
from services.router.store import Message, Receipt, ReceiptRow
from tests.support.waiting import until

P: Final = 3
RAMA_SITA: Final = names.direct("rama", "sita")
FIELD: Final = names.group("field")

_lease: Final = Script("libs.streams", "lease.lua")
_release: Final = Script("libs.streams", "release.lua")
# A second, in the unit of tokens.
_AHEAD: Final = 1_000_000


async def take(broker: Broker, router: str = "r1", ttl_ms: int = LEASE_TTL_MS, *, held: int = 0) -> int:
    """Take the lease of P, or keep it under the token `held`; the token, 0 if refused."""
    call = _lease.call([keys.lease(P), keys.lease_token(P)], router, ttl_ms, str(held), 1)
    return int(await broker.script(call))


async def release(broker: Broker, token: int, router: str = "r1") -> int:
    return int(await broker.script(_release.call([keys.lease(P)], router, str(token))))


async def holder(broker: Broker) -> str | None:
    raw = await broker.command("GET", keys.lease(P))
    return None if raw is None else raw.decode()


async def lapsed(broker: Broker) -> None:
    async def is_gone() -> bool:
        return await holder(broker) is None

    await until(is_gone, 5, "the lease to lapse")


async def owned(broker: Broker, router: str = "r1") -> Partition:
    """P under a lease that a test does not outlive."""
    token = await take(broker, router, 60_000)
    assert token
    return Partition(P, token, router)


async def order(broker: Broker, owner: Partition, *candidates: Candidate, is_store_away: bool = False) -> Any:
    reply = await broker.script(owner.order(candidates, is_store_away=is_store_away))
    return None if reply is None else [(state.decode(), seq, where.decode()) for state, seq, where, _ in reply]


async def times(broker: Broker, owner: Partition, *keys_: str) -> list[int]:
    """The server times that messages with these keys are given."""
    reply = await broker.script(owner.order([Candidate(k, RAMA_SITA, may=True) for k in keys_], is_store_away=False))
    return [int(at_ms) for _, _, _, at_ms in reply]


async def places(broker: Broker, owner: Partition, *wanted: tuple[str, str]) -> list[int]:
    """The seqs that (key, conversation) are given."""
    reply = await order(broker, owner, *(Candidate(key, where, may=True) for key, where in wanted))
    assert {state for state, _, _ in reply} <= {"given", "kept"}
    return [seq for _, seq, _ in reply]


async def state(broker: Broker) -> dict[str, Any]:
    """All that the broker holds of P, but for the lease itself."""
    found = {}
    for key in sorted(await broker.command("KEYS", "*")):
        kind = await broker.command("TYPE", key)
        command = ("HGETALL", key) if kind == b"hash" else ("XRANGE", key, "-", "+")
        if kind in (b"hash", b"stream"):
            found[key.decode()] = await broker.command(*command)
    return found


def message(key: str, seq: int, conversation_id: str = RAMA_SITA) -> Message:
    """A message of which only its key and its place matter."""
    return Message("", key, conversation_id, seq, "rama", "Rama", "member", "text", "", key, key, 0, 0)


async def hash_of(broker: Broker, key: str) -> dict[str, str]:
    return {field.decode(): value.decode() for field, value in (await broker.command("HGETALL", key)).items()}


async def fill(broker: Broker, entries: int) -> list[str]:
    """Entries on the inbound stream of P; their ids."""
    ids = await broker.batch([("XADD", keys.inbound(P), "*", "f", b"")] * entries)
    return [entry.decode() for entry in ids]


async def left(broker: Broker) -> list[str]:
    return [entry[0].decode() for entry in await broker.command("XRANGE", keys.inbound(P), "-", "+")]


# lease.lua and release.lua


async def test_tokens_rise_with_every_lease(broker: Broker) -> None:
    """Whoever takes it, however soon after: each token is higher than all before."""
    tokens = []
    for router in ("r1", "r2", "r1", "r1"):
        tokens.append(await take(broker, router))
        await release(broker, tokens[-1], router)
    assert tokens == sorted(set(tokens))
    assert tokens[0] > 0


async def test_tokens_rise_also_after_the_broker_was_wiped(broker: Broker) -> None:
    """The clock holds them up, so that a router from before cannot outrank one from after."""
    before = await take(broker)
    await broker.command("FLUSHALL")
    after = await take(broker, "r2")
    assert after > before


async def test_tokens_rise_also_when_the_clock_went_back(broker: Broker) -> None:
    """The last token given is remembered: a replica with a slower clock goes on above it."""
    ahead = (await take(broker)) + 10**12
    await broker.command("SET", keys.lease_token(P), ahead)
    assert await take(broker) == ahead + 1


async def test_a_lease_is_refused_to_another(broker: Broker) -> None:
    """One owner at a time; the refused one changes nothing."""
    token = await take(broker)
    assert await take(broker, "r2") == 0
    assert await holder(broker) == f"{token} r1"
    assert await broker.command("GET", keys.lease_token(P)) == str(token).encode()


async def test_a_lease_from_before_the_clock_was_set_back_lasts_no_longer_than_others(broker: Broker) -> None:
    """Whoever should have the partition asks, and need not wait for as long as the clock was set back."""
    assert await take(broker, "r1", 300_000)
    assert await take(broker, "r2") == 0
    assert await broker.command("PTTL", keys.lease(P)) <= LEASE_TTL_MS
    assert await take(broker, "r2") == 0
    assert await broker.command("PTTL", keys.lease(P)) <= LEASE_TTL_MS


async def test_an_owner_may_take_its_lease_anew(broker: Broker) -> None:
    """That is how it starts a partition over: under a higher token, after which the old one is void."""
    old = await take(broker)
    new = await take(broker)
    assert new > old
    assert await take(broker, held=old) == 0
    assert await take(broker, held=new) == new


async def test_renewing_keeps_the_token_and_the_lease(broker: Broker) -> None:
    """The time to live starts again."""
    token = await take(broker, ttl_ms=500)
    assert await take(broker, ttl_ms=60_000, held=token) == token
    assert await broker.command("PTTL", keys.lease(P)) > 50_000
    assert await holder(broker) == f"{token} r1"


async def test_a_lease_that_lapsed_cannot_be_renewed(broker: Broker) -> None:
    """Its owner has to take it, under a new token: another may have been there meanwhile."""
    token = await take(broker, ttl_ms=1)
    await lapsed(broker)
    assert await take(broker, held=token) == 0
    assert await holder(broker) is None
    assert await take(broker, "r2") > token


async def test_a_stale_token_neither_renews_nor_releases(broker: Broker) -> None:
    """A router that was paused and wakes up leaves its successor's lease alone."""
    stale = await take(broker, "r1", ttl_ms=1)
    await lapsed(broker)
    token = await take(broker, "r2")
    assert await take(broker, "r1", held=stale) == 0
    assert await release(broker, stale, "r1") == 0
    assert await release(broker, token, "r1") == 0
    assert await holder(broker) == f"{token} r2"


async def test_a_released_lease_is_free_at_once(broker: Broker) -> None:
    """Others need not wait for it to lapse; releasing again does nothing."""
    token = await take(broker)
    assert await release(broker, token) == 1
    assert await release(broker, token) == 0
    assert await take(broker, "r2") > token


async def test_a_router_whose_name_has_spaces_is_itself(broker: Broker) -> None:
    """The name is all that follows the token."""
    token = await take(broker, "r 1 a")
    assert await take(broker, "r 1") == 0
    assert await take(broker, "r 1 a", held=token) == token


# order.lua


async def test_places_count_from_one_without_gaps(broker: Broker) -> None:
    """In each conversation by itself, over any number of batches."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    owner.note_end(FIELD, 0)
    assert await places(broker, owner, ("a", RAMA_SITA), ("b", FIELD), ("c", RAMA_SITA)) == [1, 1, 2]
    assert await places(broker, owner, ("d", FIELD), ("e", RAMA_SITA), ("f", RAMA_SITA)) == [2, 3, 4]


async def test_the_same_message_keeps_its_place(broker: Broker) -> None:
    """Sent twice in a batch, again in the next, or replayed by the owner after: one place, and none is skipped."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    assert await places(broker, owner, ("a", RAMA_SITA), ("a", RAMA_SITA), ("b", RAMA_SITA)) == [1, 1, 2]
    successor = await owned(broker)
    successor.note_end(RAMA_SITA, 0)
    assert await places(broker, successor, ("b", RAMA_SITA), ("a", RAMA_SITA), ("c", RAMA_SITA)) == [2, 1, 3]


async def test_a_message_is_told_whether_it_had_its_place_before(broker: Broker) -> None:
    """`given` now, or `kept` from an earlier batch, whose sender may have been answered."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    first, second = Candidate("a", RAMA_SITA, may=True), Candidate("b", RAMA_SITA, may=True)
    assert await order(broker, owner, first) == [("given", 1, RAMA_SITA)]
    assert await order(broker, owner, first, second) == [("kept", 1, RAMA_SITA), ("given", 2, RAMA_SITA)]


async def test_server_times_rise_with_places_and_are_kept(broker: Broker) -> None:
    """They come from the broker's clock, the one that all routers share, and a replay finds them again."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    seconds, _ = await broker.command("TIME")
    given = [at_ms for key in ("a", "b", "c") for at_ms in await times(broker, owner, key)]
    assert given == sorted(given)
    assert int(seconds) * 1000 <= given[0] < (int(seconds) + 60) * 1000
    successor = await owned(broker)
    successor.note_end(RAMA_SITA, 0)
    assert await times(broker, successor, "a", "b", "c") == given


async def test_server_times_never_fall_though_the_clock_is_set_back(broker: Broker) -> None:
    """What is due is brought by them: a later message with an earlier time would come first."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    (given,) = await times(broker, owner, "a")
    ahead = given + 300_000
    await broker.command("SET", keys.clock(P), ahead)
    assert await times(broker, owner, "b", "c") == [ahead, ahead]
    successor = await owned(broker)
    successor.note_end(RAMA_SITA, 0)
    assert await times(broker, successor, "d") == [ahead]


async def test_server_times_never_fall_though_the_broker_forgot_them(broker: Broker) -> None:
    """Wiped while its clock is behind, it goes on from the store's last message; so does who cannot ask the store."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    (given,) = await times(broker, owner, "a")
    ahead = given + 300_000
    await broker.command("FLUSHALL")
    heir = await owned(broker, "r2")
    heir.note_end(RAMA_SITA, 1, ahead)
    assert await times(broker, heir, "b") == [ahead]
    heir.note_end(RAMA_SITA, 2, ahead)
    assert await times(broker, heir, "c") == [ahead]
    assert await times(broker, await owned(broker, "r2"), "d") == [ahead]


async def test_server_times_never_fall_where_a_place_was_given_in_an_earlier_life(broker: Broker) -> None:
    """A replica that was far behind is promoted: what stands in the store before a place that it knows came later."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    (first, second) = await times(broker, owner, "a", "b")
    successor = await owned(broker)
    successor.note_end(RAMA_SITA, 1, second + 9000)
    assert await times(broker, successor, "b") == [second + 9000]
    again = await owned(broker)
    again.note_end(RAMA_SITA, 1, first)
    assert await times(broker, again, "b", "c") == [second + 9000, second + 9000]


async def test_places_go_on_from_the_store(broker: Broker) -> None:
    """After the broker was wiped, the counter restarts from what is saved."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 41)
    assert await places(broker, owner, ("a", RAMA_SITA), ("b", RAMA_SITA)) == [42, 43]


async def test_places_go_on_from_the_broker_while_the_store_lags(broker: Broker) -> None:
    """What is on its way to the store counts: the higher of both is the last place."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    await places(broker, owner, *((f"key{n}", RAMA_SITA) for n in range(10)))
    owner.note_end(RAMA_SITA, 4)
    assert await places(broker, owner, ("next", RAMA_SITA)) == [11]


@pytest.mark.parametrize("saved", [1, 2, 9])
async def test_a_place_that_went_to_another_message_is_given_anew(broker: Broker, saved: int) -> None:
    """The broker lost its newest writes: a message not found in the store cannot stand where the store ends."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    assert await places(broker, owner, ("a", RAMA_SITA)) == [1]
    owner.note_end(RAMA_SITA, saved)
    assert await places(broker, owner, ("a", RAMA_SITA)) == [saved + 1]
    assert await places(broker, owner, ("a", RAMA_SITA), ("b", RAMA_SITA)) == [saved + 1, saved + 2]


async def test_a_refused_message_gets_no_place(broker: Broker) -> None:
    """`none`: it is told that it has none, and nothing is written."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 7)
    before = await state(broker)
    assert await order(broker, owner, Candidate("a", RAMA_SITA, may=False)) == [("none", 0, RAMA_SITA)]
    assert await state(broker) == before == {}


async def test_a_refused_message_that_has_a_place_keeps_it(broker: Broker) -> None:
    """Once it has a place nothing refuses it any more: a block that came after is too late."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    await places(broker, owner, ("a", RAMA_SITA))
    assert await order(broker, owner, Candidate("a", RAMA_SITA, may=False)) == [("kept", 1, RAMA_SITA)]


async def test_without_the_store_a_conversation_never_seen_has_no_places(broker: Broker) -> None:
    """`unknown`: a place that might be another message's is not given."""
    owner = await owned(broker)
    assert await order(broker, owner, Candidate("a", RAMA_SITA, may=True), is_store_away=True) == [
        ("unknown", 0, RAMA_SITA)
    ]
    assert await state(broker) == {}


async def test_without_the_store_a_conversation_under_way_goes_on(broker: Broker) -> None:
    """The broker knows the last place given, so that an owner who knows nothing can go on from it."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 6)
    await places(broker, owner, ("a", RAMA_SITA))
    successor = await owned(broker)
    assert await order(
        broker,
        successor,
        Candidate("b", RAMA_SITA, may=True),
        Candidate("a", RAMA_SITA, may=True),
        is_store_away=True,
    ) == [("given", 8, RAMA_SITA), ("kept", 7, RAMA_SITA)]


async def test_without_the_store_a_message_keeps_the_place_it_has(broker: Broker) -> None:
    """It may be in the store there, and must not stand at two places; if another is, the store will say so."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    await places(broker, owner, ("a", RAMA_SITA))
    owner.note_end(RAMA_SITA, 1)
    asked = Candidate("a", RAMA_SITA, may=True)
    assert await order(broker, owner, asked, is_store_away=True) == [("kept", 1, RAMA_SITA)]
    assert await order(broker, owner, asked) == [("given", 2, RAMA_SITA)]


def replayed(key: str, entry: str, *, may: bool = True) -> Candidate:
    return Candidate(key, RAMA_SITA, entry, may=may)


@pytest.mark.parametrize("is_store_away", [False, True])
async def test_in_a_replay_places_rise_with_the_entries_they_were_given_to(broker: Broker, is_store_away: bool) -> None:
    """What was refused before others were placed stands behind none of them, however the stream is read again."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    # `a` was refused at 9-1; 10-0 is after it, though not as a string.
    assert await order(broker, owner, replayed("b", "10-0"), replayed("c", "10-0")) == [
        ("given", 1, RAMA_SITA),
        ("given", 2, RAMA_SITA),
    ]
    heir = await owned(broker)
    heir.note_end(RAMA_SITA, 0)

    async def again(*candidates: Candidate) -> list[tuple[str, int]]:
        call = heir.order(candidates, is_store_away=is_store_away, is_replay=True)
        return [(state.decode(), seq) for state, seq, _, _ in await broker.script(call)]

    assert await again(replayed("a", "9-1")) == [("unknown", 0)]
    assert await again(replayed("d", "10-0"), replayed("b", "10-0")) == [("unknown", 0), ("kept", 1)]
    # Those that nobody has read come after it, several to an entry as well.
    assert await again(replayed("a", "10-1"), replayed("d", "10-1")) == [("given", 3), ("given", 4)]
    for may in (True, False):
        assert await again(replayed("a", "9-1", may=may)) == [("later", 0)]
    assert await again(replayed("c", "10-0"), replayed("a", "10-1")) == [("kept", 2), ("kept", 3)]


async def test_in_a_replay_what_was_refused_stands_behind_what_is_acknowledged(broker: Broker) -> None:
    """While that is only saved it may not have been shown yet, and would be shown after it."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    await order(broker, owner, replayed("b", "10-0"))
    heir = await owned(broker)
    heir.note_end(RAMA_SITA, 1)
    call = heir.order([replayed("a", "9-1")], is_store_away=False, is_replay=True)
    for given in [(b"unknown", 0), (b"given", 2)]:
        ((state, seq, _, _),) = await broker.script(call)
        assert (state, seq) == given
        await broker.script(heir.acknowledge(None, [message("b", 1)]))


async def test_in_a_replay_a_place_that_was_taken_is_not_given_anew_before_what_was_placed_behind_it(
    broker: Broker,
) -> None:
    """Else what was placed behind would have to leave its place too, which stayed empty."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    await order(broker, owner, replayed("b", "9-1"))
    await order(broker, owner, replayed("c", "9-2"))
    heir = await owned(broker)
    heir.note_end(RAMA_SITA, 1)
    found = []
    for candidate in (replayed("b", "9-1"), replayed("c", "9-2"), replayed("b", "9-3")):
        call = heir.order([candidate], is_store_away=False, is_replay=True)
        found += [(state.decode(), seq) for state, seq, _, _ in await broker.script(call)]
    assert found == [("unknown", 0), ("kept", 2), ("given", 3)]


async def test_a_place_that_an_older_version_gave_is_kept(broker: Broker) -> None:
    """It wrote down no entry: the place is found, counted on, and given free."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    await broker.command("HSET", keys.assigned(P), "a", "1 1700000000000")
    await broker.command("HSET", keys.seqs(P), RAMA_SITA, 1)
    call = owner.order([replayed("a", "9-1"), replayed("b", "9-2")], is_store_away=False, is_replay=True)
    assert [(state, seq) for state, seq, _, _ in await broker.script(call)] == [(b"kept", 1), (b"given", 2)]
    await broker.script(owner.acknowledge(None, [message("a", 1), message("b", 2)]))
    assert await broker.command("EXISTS", keys.seqs(P), keys.assigned(P)) == 0


@pytest.mark.parametrize("may", [True, False])
async def test_without_the_store_a_message_saved_lately_is_known(broker: Broker, may: bool) -> None:
    """`recent`: it is told the place it has, in the conversation it stands in, and takes no other."""
    owner = await owned(broker)
    await broker.script(owner.acknowledge(None, [message("a", 5)]))
    assert await order(broker, owner, Candidate("a", FIELD, may=may), is_store_away=True) == [("recent", 5, RAMA_SITA)]


async def test_with_the_store_the_recent_are_not_asked(broker: Broker) -> None:
    """The store was asked before; what it does not have is new."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 8)
    await broker.script(owner.acknowledge(None, [message("a", 5)]))
    assert await places(broker, owner, ("a", RAMA_SITA)) == [9]


async def test_a_message_stays_recent_into_the_next_window(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat that comes when the window has just turned is known; two windows later it is not."""
    owner = await owned(broker)
    now = 1_000_000.0
    monkeypatch.setattr(f"{partitions.__name__}.time.time", lambda: now)
    await broker.script(owner.acknowledge(None, [message("a", 5)]))
    found = []
    for windows in (0, 1, 2):
        monkeypatch.setattr(f"{partitions.__name__}.time.time", lambda w=windows: now + w * partitions._RECENT_WINDOW_S)
        ((what, _, _),) = await order(broker, owner, Candidate("a", RAMA_SITA, may=True), is_store_away=True)
        found.append(what)
    assert found == ["recent", "recent", "unknown"]


async def test_a_message_is_recent_for_a_router_whose_clock_is_behind(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was saved in a window that, by this clock, is still to come."""
    owner = await owned(broker)
    now = 1_000_000.0
    monkeypatch.setattr(f"{partitions.__name__}.time.time", lambda: now)
    await broker.script(owner.acknowledge(None, [message("a", 5)]))
    monkeypatch.setattr(f"{partitions.__name__}.time.time", lambda: now - partitions._RECENT_WINDOW_S)
    ((what, seq, _),) = await order(broker, owner, Candidate("a", RAMA_SITA, may=True), is_store_away=True)
    assert (what, seq) == ("recent", 5)


async def test_who_lost_the_lease_gives_no_places(broker: Broker) -> None:
    """nil, and nothing is written: for a lease that is another's, taken anew, lapsed or wiped away."""
    candidate = Candidate("a", RAMA_SITA, may=True)
    paused = await owned(broker)
    paused.note_end(RAMA_SITA, 0)
    owner = await owned(broker)  # the same router, under a new token
    before = await state(broker)
    assert await order(broker, paused, candidate) is None
    assert await state(broker) == before
    await release(broker, owner.token)
    assert await order(broker, owner, candidate) is None
    await owned(broker, "r2")
    assert await order(broker, owner, candidate) is None
    await broker.command("FLUSHALL")
    assert await order(broker, owner, candidate) is None
    assert await state(broker) == {}


# acknowledge.lua


async def test_a_stream_is_trimmed_exactly_to_what_was_acknowledged(broker: Broker) -> None:
    """All up to the last entry of the batch goes, and not one beyond, also within one millisecond."""
    owner = await owned(broker)
    ids = await fill(broker, 500)
    for done in (0, 1, 250, 498):
        assert await broker.script(owner.acknowledge(ids[done])) == 1
        assert await left(broker) == ids[done + 1 :]
    await broker.script(owner.acknowledge(ids[-1]))
    assert await left(broker) == []


async def test_acknowledging_again_or_less_takes_nothing(broker: Broker) -> None:
    """A batch that is acknowledged twice, or late, takes no entry that came after it."""
    owner = await owned(broker)
    ids = await fill(broker, 5)
    await broker.script(owner.acknowledge(ids[2]))
    await broker.script(owner.acknowledge(ids[2]))
    await broker.script(owner.acknowledge(ids[0]))
    assert await left(broker) == ids[3:]


async def test_acknowledging_no_entry_trims_nothing(broker: Broker) -> None:
    """Receipts that the store has now are cleared without touching the stream."""
    owner = await owned(broker)
    ids = await fill(broker, 3)
    assert await broker.script(owner.acknowledge(None)) == 1
    assert await left(broker) == ids


async def test_a_saved_message_needs_its_place_in_the_broker_no_longer(broker: Broker) -> None:
    """Its assignment goes, and the counter of its conversation once the last place given is saved."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    owner.note_end(FIELD, 0)
    await places(broker, owner, ("a", RAMA_SITA), ("b", RAMA_SITA), ("c", FIELD))
    await broker.script(owner.acknowledge(None, [message("a", 1), message("c", 1, FIELD)]))
    assert (await hash_of(broker, keys.assigned(P))).keys() == {"b"}
    assert await hash_of(broker, keys.seqs(P)) == {RAMA_SITA: "2 0-0"}
    await broker.script(owner.acknowledge(None, [message("b", 2)]))
    assert await state(broker) == {keys.recent(P, partitions._window()): await _recent(broker)}


async def _recent(broker: Broker) -> Any:
    return await broker.command("HGETALL", keys.recent(P, partitions._window()))


async def test_a_counter_that_has_gone_on_is_kept(broker: Broker) -> None:
    """Saving place 1 while place 2 is given leaves the counter: place 2 must not be given twice."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    await places(broker, owner, ("a", RAMA_SITA))
    await places(broker, owner, ("b", RAMA_SITA))
    await broker.script(owner.acknowledge(None, [message("a", 1)]))
    assert await places(broker, owner, ("c", RAMA_SITA)) == [3]


async def test_only_saved_messages_lose_their_assignment(broker: Broker) -> None:
    """An acknowledgement without saved messages (all were refused) leaves every place."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 0)
    await places(broker, owner, ("a", RAMA_SITA))
    ids = await fill(broker, 1)
    before = await state(broker)
    await broker.script(owner.acknowledge(ids[0]))
    assert await state(broker) == {**before, keys.inbound(P): []}


async def test_recent_windows_expire(broker: Broker) -> None:
    """Each lives for two windows after its last message; nobody has to clear them away."""
    owner = await owned(broker)
    key = keys.recent(P, partitions._window())
    await broker.script(owner.acknowledge(None, [message("a", 1), message("b", 2)]))
    assert await hash_of(broker, key) == {"a": f"1 {RAMA_SITA}", "b": f"2 {RAMA_SITA}"}
    left_s = await broker.command("TTL", key)
    assert partitions._RECENT_WINDOW_S < left_s <= 2 * partitions._RECENT_WINDOW_S


def row(user_id: str, receipt: Receipt, conversation_id: str = RAMA_SITA) -> ReceiptRow:
    return ReceiptRow(conversation_id, user_id, receipt)


async def journal(broker: Broker) -> dict[str, Receipt]:
    found = await broker.command("HGETALL", keys.receipts(P))
    return {field.decode(): unpack(packed) for field, packed in found.items()}


async def test_receipts_are_kept_until_the_store_has_them(broker: Broker) -> None:
    """They come with the acknowledgement of the batch that brought them, and go one by one."""
    owner = await owned(broker)
    ids = await fill(broker, 1)
    rows: Sequence[ReceiptRow] = [
        row("sita", Receipt(3, 2, (5, 7))),
        row("rama", Receipt(9, 9)),
        row("sita", Receipt(1), FIELD),
    ]
    await broker.script(owner.acknowledge(ids[0], receipts=rows))
    assert await journal(broker) == {journal_field(r.conversation_id, r.user_id): r.receipt for r in rows}
    assert await left(broker) == []
    await broker.script(owner.acknowledge(None, cleared=[rows[0], rows[2]]))
    assert await journal(broker) == {journal_field(RAMA_SITA, "rama"): Receipt(9, 9)}


async def test_a_newer_receipt_takes_the_place_of_an_older(broker: Broker) -> None:
    """One entry a member and conversation, however often they confirm."""
    owner = await owned(broker)
    await broker.script(owner.acknowledge(None, receipts=[row("sita", Receipt(3))]))
    await broker.script(owner.acknowledge(None, receipts=[row("sita", Receipt(4, 4))]))
    assert await journal(broker) == {journal_field(RAMA_SITA, "sita"): Receipt(4, 4)}


async def test_a_receipt_that_grew_while_it_was_saved_stays(broker: Broker) -> None:
    """The clearing of the older one may come behind the newer: they travel on connections of their own."""
    owner = await owned(broker)
    clearing = owner.acknowledge(None, cleared=[row("sita", Receipt(3))])
    await broker.script(owner.acknowledge(None, receipts=[row("sita", Receipt(4))]))
    await broker.script(clearing)
    assert await broker.command("HLEN", keys.receipts(owner.number)) == 1


async def test_who_lost_the_lease_acknowledges_nothing(broker: Broker) -> None:
    """nil, and nothing is taken or written: a paused router that wakes up steals nothing."""
    paused = await owned(broker)
    paused.note_end(RAMA_SITA, 0)
    await places(broker, paused, ("a", RAMA_SITA))
    await broker.script(paused.acknowledge(None, receipts=[row("rama", Receipt(1))]))
    ids = await fill(broker, 3)
    await owned(broker)
    before = await state(broker)
    late = paused.acknowledge(ids[-1], [message("a", 1)], [row("sita", Receipt(1))], [row("rama", Receipt(1))])
    assert await broker.script(late) is None
    assert await state(broker) == before
    await broker.command("DEL", keys.lease(P))
    assert await broker.script(late) is None
    assert await state(broker) == before


async def test_what_was_not_acknowledged_is_read_again_from_the_beginning(broker: Broker) -> None:
    """The next owner finds all that is still to do, and nothing that is done."""
    owner = await owned(broker)
    ids = await fill(broker, 4)
    await broker.script(owner.acknowledge(ids[1]))
    successor = await owned(broker)
    read = await consumer.read(broker, {keys.inbound(P): successor.position}, count=10, block_ms=1)
    assert [entry.id for entry in read[keys.inbound(P)]] == ids[2:]


async def test_a_batch_of_thousands_is_one_call(broker: Broker) -> None:
    """The scripts take what a full batch brings: ten thousand messages and receipts."""
    owner = await owned(broker)
    owner.note_end(FIELD, 0)
    wanted = [(f"key{n}", FIELD) for n in range(10_000)]
    assert await places(broker, owner, *wanted) == list(range(1, 10_001))
    saved = [message(key, n, FIELD) for n, (key, _) in enumerate(wanted, start=1)]
    receipts = [row(f"user{n}", Receipt(n), FIELD) for n in range(10_000)]
    assert await broker.script(owner.acknowledge(None, saved, receipts)) == 1
    assert await broker.command("HLEN", keys.receipts(P)) == 10_000
    assert await broker.command("EXISTS", keys.seqs(P), keys.assigned(P)) == 0


# What a failover lost


async def test_tokens_rise_above_what_a_gateway_has_seen_whatever_the_broker_forgot(broker: Broker) -> None:
    """The newest token is lost and the clock is behind it: its owner's is too old, and has to be taken anew."""
    seen = await take(broker) + 60 * _AHEAD  # by a clock that is a minute ahead of this server's
    held = await take(broker)
    assert held < seen
    assert await broker.script(leases.surpass(P, seen)) == 1
    assert await take(broker, held=held) == 0, "whoever had it notices"
    anew = await take(broker)
    assert anew > seen
    assert await broker.script(leases.surpass(P, seen)) == 0, "as it should be: nothing is taken from anybody"
    assert await take(broker, held=anew) == anew


async def test_a_token_that_was_seen_holds_without_an_owner_too(broker: Broker) -> None:
    """Wiped, the broker knows no token: whoever comes is given one above those of before."""
    seen = await take(broker) + 60 * _AHEAD
    await broker.command("DEL", keys.lease(P), keys.lease_token(P))
    assert await broker.script(leases.surpass(P, seen)) == 0
    assert await take(broker) > seen


async def test_no_seq_is_given_twice_when_the_broker_forgot_what_it_gave(broker: Broker) -> None:
    """Places go with the tail: of two messages with one place the store takes the first, the other gets the next."""
    owner = await owned(broker)
    owner.note_end(RAMA_SITA, 4)
    before = await broker.command("HGETALL", keys.seqs(P))
    assert await places(broker, owner, ("a", RAMA_SITA), ("b", RAMA_SITA)) == [5, 6]
    # A failover: all of it is as it was before. `a` was saved and said meanwhile, `b` was not.
    await broker.command("DEL", keys.seqs(P), keys.assigned(P))
    assert before == {}
    heir = await owned(broker)
    heir.note_end(RAMA_SITA, 5)
    assert await places(broker, heir, ("c", RAMA_SITA), ("b", RAMA_SITA)) == [6, 7]
    # A place that came back with an older state, of a message that the store holds elsewhere by now.
    heir.note_end(RAMA_SITA, 7)
    await broker.command("HSET", keys.assigned(P), "d", "6 1")
    await broker.command("HSET", keys.seqs(P), RAMA_SITA, 6)
    assert await places(broker, heir, ("d", RAMA_SITA)) == [8]
