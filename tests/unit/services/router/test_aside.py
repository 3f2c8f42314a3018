"""Searches beside the batches: they hold up no message, and every one of them is answered or refused."""

import asyncio
import json
from typing import Any

import pytest

from libs import lifecycle
from libs.broker import Broker
from libs.wire.frames import Answer, Emit, Origin, Search
from services.router import aside
from services.router.partition import Partition
from tests.support.waiting import until
from tests.unit.services.router.fakes import RAMA_SITA, FakeStore, message
from tests.unit.services.router.test_delivery import Desk, send


@pytest.fixture
async def desk(store: FakeStore, broker: Broker) -> Desk:
    """A router whose searches nobody answers yet."""
    return Desk(store, broker)


def ask(session: str = "socket", place: str | None = None) -> Search:
    return Search(Origin("g1", session, 4), "rama", "survey", 20, place)


async def answers(desk: Desk, *partitions: Partition) -> dict[str, Any]:
    """What g1 is told once nothing waits any more, by session."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(desk.aside.run())
        await until(lambda: not any(partition.under_way for partition in partitions), 5, "nothing to wait")
        await lifecycle.cancel([running])
    heard = [frame for frame in await desk.heard("g1") if isinstance(frame, Answer)]
    return {answer.session: json.loads(answer.body) for answer in heard}


async def test_a_search_holds_up_no_message(desk: Desk) -> None:
    """The batch is said and acknowledged while its search still waits; the partition waits for the answer."""
    partition = await desk.open()
    desk.store.found = [message(1)]
    await desk.deliver(partition, ask(), send("c1"))
    assert [frame.event for frame in await desk.heard("g2") if isinstance(frame, Emit)] == ["new_message"]
    assert partition.under_way == 1
    await desk.heard("g1")
    assert (await answers(desk, partition))["socket"]["results"][0]["conversationId"] == RAMA_SITA


async def test_what_goes_wrong_with_one_search_is_its_own(desk: Desk) -> None:
    """Away, forbidden, a bug of ours: each is answered, and the next one too."""
    partition = await desk.open()
    desk.store.away = {"search"}
    await desk.deliver(partition, ask("away"), ask("forbidden", "group:nothing"))
    said = await answers(desk, partition)
    desk.store.away, desk.store.broken = set(), {"search"}
    await desk.deliver(partition, ask("bug"))
    said |= await answers(desk, partition)
    desk.store.broken = set()
    await desk.deliver(partition, ask("good"))
    said |= await answers(desk, partition)
    assert said.pop("good")["ok"]
    assert {session: answer["error"]["code"] for session, answer in said.items()} == {
        "away": "unavailable",
        "forbidden": "access_denied",
        "bug": "internal",
    }


async def test_what_waits_too_long_or_does_not_fit_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `overloaded`, at once or when its turn comes; the store is not asked."""
    partition = await desk.open()
    for number in range(aside._WAITING_MAX):
        assert desk.aside.ask_nowait(partition, ask(f"s{number}")) == ()
    assert desk.aside.ask_nowait(partition, ask("one more")) != ()
    monkeypatch.setattr(aside, "_PATIENCE_S", -1.0)
    answered = await answers(desk, partition)
    assert len(answered) == aside._WAITING_MAX
    assert {answer["error"]["code"] for answer in answered.values()} == {"overloaded"}
    assert all(answer["error"]["retryAfterMs"] for answer in answered.values())
    assert "search" not in desk.store.asked


async def test_a_partition_that_was_lost_is_answered_by_its_owner(desk: Desk) -> None:
    """Nothing is said under a token that is void."""
    partition = await desk.open()
    desk.aside.ask_nowait(partition, ask("lost"))
    partition.is_lost = True
    another = await desk.own()
    desk.aside.ask_nowait(another, ask("kept"))
    assert set(await answers(desk, partition, another)) == {"kept"}
