"""The model (tests/model) and the code walk side by side: real scripts, a real broker, a real store.

A walk is steps of the model, drawn; what the code does is done for each, and then both have the same lease, stream,
places and log. So neither can change without the other.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from libs import keys
from libs.broker import Broker, Script, connect
from libs.wire import names
from libs.wire.events import Draft
from libs.wire.frames import Origin, Send, Sender
from services.router import records
from services.router.partition import Candidate, Partition
from services.router.sqlite import open_store
from services.router.store import Message, Saved, Store
from tests.model.steps import steps
from tests.model.world import NOBODY, VOID, Batch, Bounds, State, Without, beginning
from tests.support.broker import RunningBroker, live_broker

P: Final = 3
BOUNDS: Final = Bounds(messages=3, resends=2, crashes=2, lapses=2, wipes=1, failovers=1, outages=1, has_reader=False)
WALKS: Final = st.lists(st.integers(0, 1 << 16), min_size=20, max_size=90)
LETTERS: Final = "abc"

_lease: Final = Script("libs.streams", "lease.lua")


class Real:
    """The broker, the store, and what routers think that they own."""

    def __init__(self, server: RunningBroker, broker: Broker, store: Store, walk: int) -> None:
        self._server = server
        self._broker = broker
        self._store = store
        self._asha = f"asha{walk}"
        self._where = names.direct(self._asha, "ravi")
        self._partitions: dict[int, Partition] = {}
        # By the model's numbers.
        self._tokens: dict[int, int] = {}
        self._entries: dict[int, str] = {}
        self._replica: dict[bytes, bytes] = {}

    async def do(self, what: str, before: State, after: State) -> None:
        """What the code does where the model takes this step."""
        if match := re.match(r"r(\d) (.*?)(?::|,|!|$)", what):
            number = int(match[1]) - 1
            await self._do(number, match[2], before, after)
        elif what.startswith(("asha", "ravi's phone")):
            entry = after.broker.inbound[-1]
            self._entries[entry.id] = (await self._broker.command("XADD", keys.inbound(P), "*", "f", "")).decode()
        elif what.endswith("lapses"):
            await self._broker.command("DEL", keys.lease(P))
        elif what == "the broker is wiped!":
            self._server.empty()
        elif what.startswith("the replica"):
            self._replica = {
                key: await self._broker.command("DUMP", key) for key in await self._broker.command("KEYS", "*")
            }
        elif what == "a failover!":
            self._server.empty()
            for key, value in self._replica.items():
                await self._broker.command("RESTORE", key, 0, value)

    async def _do(self, number: int, what: str, before: State, after: State) -> None:
        router = before.routers[number]
        is_lost = bool(router.token) and not after.routers[number].token
        match what:
            case "takes the lease":
                token = await self._take(number, 0)
                assert token > max(self._tokens.values(), default=0)
                self._tokens[after.routers[number].token] = token
                self._partitions[number] = Partition(P, token, f"r{number}")
            case "finds its lease gone":
                assert await self._take(number, self._tokens[router.token]) == 0
            case "is paused":
                await self._broker.command("DEL", keys.lease(P))
            case "orders" if router.reading is not None:
                await self._order(number, router.reading, after, is_lost=is_lost)
            case "saves" if not after.store.is_away and not router.parked:
                await self._save((router.decided[0],))
            case "saves what was parked":
                await self._save(router.parked)
            case "acknowledges" if router.owed is not None:
                placed = [self._message(message, seq) for message, seq in router.owed.placed]
                call = self._partitions[number].acknowledge(self._entries[router.owed.up_to], placed)
                assert (await self._broker.script(call) is None) == is_lost

    async def _take(self, number: int, held: int) -> int:
        call = _lease.call([keys.lease(P), keys.lease_token(P)], f"r{number}", 60_000, str(held), 1)
        return int(await self._broker.script(call))

    async def _order(self, number: int, batch: Batch, after: State, *, is_lost: bool) -> None:
        asked = [verdict for verdict in batch.verdicts if batch.is_replay or not verdict.seq]
        if not asked:
            return
        partition = self._partitions[number]
        if after.routers[number].token and after.routers[number].last_seq >= 0:
            partition.note_end(self._where, after.routers[number].last_seq)
        call = partition.order(
            [Candidate(self._key(v.message), self._where, self._entries[v.entry], may=not v.seq) for v in asked],
            is_store_away=batch.is_store_away,
            is_replay=batch.is_replay,
        )
        reply = await self._broker.script(call)
        assert (reply is None) == is_lost
        if reply is None:
            return
        decided = after.routers[number].decided[-1].verdicts
        pairs = [pair for pair in zip(batch.verdicts, decided, strict=True) if batch.is_replay or not pair[0].seq]
        for (asking, there), (state, seq, _, _) in zip(pairs, reply, strict=True):
            assert there.is_later == (state == b"later")
            if not asking.seq:  # one that has its place already keeps it, whatever else the script says
                assert there.is_recent == (state == b"recent")
                assert (bool(there.seq) and not there.is_recent) == (state in (b"given", b"kept"))
                assert there.seq == seq

    async def _save(self, batches: tuple[Batch, ...]) -> None:
        new = [self._message(v.message, v.seq) for batch in batches for v in batch.verdicts if v.is_new]
        for message, outcome in zip(new, await self._store.save(new) if new else [], strict=True):
            if outcome is Saved.REPEAT:
                await self._store.save([records.void(message)])

    def _key(self, message: int) -> str:
        return names.message_key(self._asha, LETTERS[message])

    def _message(self, message: int, seq: int) -> Message:
        draft = Draft(
            conversation_id=self._where, client_id=LETTERS[message], client_message_id="", type="text", content="x"
        )
        send = Send(Origin("g1", "s"), Sender(self._asha, "", ""), draft, 1)
        return records.message(send, self._key(message), self._where, seq, 1)

    async def compare(self, state: State) -> None:
        """Both have the same."""
        broker = state.broker
        lease = await self._broker.command("GET", keys.lease(P))
        token, owner = broker.lease
        assert lease == (None if broker.lease == NOBODY else f"{self._tokens[token]} r{owner}".encode())
        stream = [entry[0].decode() for entry in await self._broker.command("XRANGE", keys.inbound(P), "-", "+")]
        assert stream == [self._entries[entry.id] for entry in broker.inbound]
        last = await self._broker.command("HGET", keys.seqs(P), self._where)
        assert last == (f"{broker.seq} {self._entries[broker.seq_by]}".encode() if broker.seq else None)
        assigned = await self._broker.command("HGETALL", keys.assigned(P))
        places = {key.decode(): tuple(value.decode().split()[::2]) for key, value in assigned.items()}
        by = dict(broker.assigned_by)
        assert places == {self._key(m): (str(seq), self._entries[by[m]]) for m, seq in broker.assigned}
        log = await self._store.history(self._where, 100)
        there = [(message.seq, message.key) for message in log]
        assert there == [(seq, self._key(message)) for seq, message in state.store.log if message != VOID]
        assert (await self._store.ends([self._where]))[self._where].seq == state.store.last_seq


@asynccontextmanager
async def everything(folder: Path) -> AsyncIterator[tuple[RunningBroker, Broker, Store]]:
    """A broker, a client of it, a store."""
    async with (
        live_broker(folder) as server,
        connect(server.url) as broker,
        open_store(folder / "store.sqlite") as store,
    ):
        yield server, broker, store


async def walked(real: Real, choices: list[int], without: Without) -> None:
    """One walk."""
    state, taken = beginning(BOUNDS), list[str]()
    for choice in choices:
        open_to = list(steps(state, without))
        if not open_to:
            break
        what, after = open_to[choice % len(open_to)]
        taken.append(what)
        try:
            await real.do(what, state, after)
            await real.compare(after)
        except AssertionError as error:
            raise AssertionError("\n".join(taken)) from error
        state = after


def walk_side_by_side(folder: Path, without: Without, walks: int) -> None:
    """So many walks. Raises AssertionError with the way to where they part."""
    phases = [Phase.generate] if without else list(Phase)
    numbers = count()
    with asyncio.Runner() as runner:
        opened = everything(folder)
        server, broker, store = runner.run(opened.__aenter__())

        @settings(max_examples=walks, deadline=None, phases=phases, derandomize=bool(without), database=None)
        @given(WALKS)
        def walk(choices: list[int]) -> None:
            server.empty()
            runner.run(walked(Real(server, broker, store, next(numbers)), choices, without))

        try:
            walk()
        finally:
            runner.run(opened.__aexit__(None, None, None))


def test_the_model_and_the_code_do_the_same(tmp_path: Path) -> None:
    """Whatever is sent, ordered, saved, acknowledged, killed, paused, wiped, failed over, in whatever order."""
    walk_side_by_side(tmp_path, Without.NOTHING, 120)


@pytest.mark.parametrize("guard", [Without.FENCE_IN_ORDER, Without.FENCE_IN_ACKNOWLEDGE, Without.REMEMBERED_PLACES])
def test_a_model_that_is_not_the_code_is_noticed(tmp_path: Path, guard: Without) -> None:
    """Without a guard that the code has, they part."""
    with pytest.raises(AssertionError, match="asha sends"):
        walk_side_by_side(tmp_path, guard, 300)
