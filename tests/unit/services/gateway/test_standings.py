"""The answers to `get_presence` and `update_presence`, with a real broker that may be away."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from libs import keys, lifecycle
from libs.broker import Broker, connect
from libs.directory import Directory, Standing, Watchers
from libs.directory.shards import shard_of
from libs.wire.codes import Code, Refusal
from services.gateway import standings as module
from services.gateway.metrics import GatewayMetrics
from services.gateway.standings import Standings
from services.gateway.watching import Watching
from tests.support.broker import RunningBroker, live_broker
from tests.support.waiting import until
from tests.unit.services.gateway.fakes import session


@asynccontextmanager
async def desk(running: RunningBroker) -> AsyncIterator[tuple[Broker, Watching, Standings]]:
    """What a gateway has for it."""
    async with connect(running.url) as broker, asyncio.TaskGroup() as tasks:
        watching = Watching(Watchers(broker), "g1", GatewayMetrics(CollectorRegistry()), linger_s=0, watches_max=1000)
        standings = Standings(broker, watching, linger_s=0)
        working = [tasks.create_task(work.run()) for work in (watching, standings)]
        yield broker, watching, standings
        await lifecycle.cancel(working)


async def announce(broker: Broker, user: str, said: str) -> None:
    await broker.command("HSET", keys.presence(shard_of(user)), user, said)


async def presence(standings: Standings, *users: str) -> Any:
    return json.loads(await standings.presence(users))


async def test_what_was_announced_and_what_is_watched_is_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whom nothing is heard in time, nothing is known; a choice is written before it is answered."""
    monkeypatch.setattr(module, "_COLD_PATIENCE_S", 0.1)
    async with live_broker(tmp_path) as running, desk(running) as (broker, watching, standings):
        await announce(broker, "bala", "offline 10 7")
        await announce(broker, "devi", "busy 10 7")
        asha, _ = session("asha")
        watching.watch(asha, ["chitra"])
        watching.learn("chitra", Standing("offline", 10, 8))
        answer = await presence(standings, "bala", "devi", "chitra", "nobody")
        assert answer["ok"]
        seen = answer["presence"]
        assert (seen["bala"], seen["chitra"], seen["nobody"]) == (
            {"status": "offline", "lastSeen": 7},
            {"status": "offline", "lastSeen": 8},
            {"status": "offline", "lastSeen": None},
        )
        assert seen["devi"]["status"] == "busy"
        assert seen["devi"]["lastSeen"] > 1000
        assert await presence(standings) == {"ok": True, "presence": {}}

        with pytest.raises(Refusal) as refused:
            await standings.choose("asha", "away")
        assert refused.value.code is Code.UNAVAILABLE
        await Directory(broker).touch("g1", ["asha"])
        assert json.loads(await standings.choose("asha", "away")) == {"ok": True}
        assert await broker.command("HGET", keys.chosen(shard_of("asha")), "asha") == b"away"


async def test_many_at_once_share_a_few_round_trips(tmp_path: Path) -> None:
    """Each gets an answer of its own."""
    async with live_broker(tmp_path) as running, desk(running) as (broker, _, standings):
        for number in range(50):
            await announce(broker, f"u{number}", f"offline 10 {number + 1}")
        answers = await asyncio.gather(*(presence(standings, f"u{number}", "u0") for number in range(50)))
        for number, answer in enumerate(answers):
            assert answer["presence"][f"u{number}"]["lastSeen"] == number + 1
            assert answer["presence"]["u0"]["lastSeen"] == 1


async def test_while_the_broker_is_away_it_is_refused_as_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, retryable; what is too much is refused at once, and all is well when it is back."""
    monkeypatch.setattr(module, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(module, "_WAITING_MAX", 3)
    async with live_broker(tmp_path) as running, desk(running) as (_, watching, standings):
        running.kill()
        results = await asyncio.gather(
            *(standings.presence(("bala",)) for _ in range(5)),
            *(standings.choose("asha", "away") for _ in range(5)),
            return_exceptions=True,
        )
        assert all(isinstance(result, Refusal) and result.code is Code.UNAVAILABLE for result in results)
        assert len(watching) == 0
        await running.start()
        monkeypatch.setattr(module, "_COLD_PATIENCE_S", 0.01)
        assert (await until(lambda: presence(standings, "bala"), 10, "an answer", despite=(Refusal,)))["ok"]
