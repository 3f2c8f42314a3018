"""Who is told of whom, and when: by sockets, with a directory that remembers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import ConnectionError as RedisConnectionError

from libs import lifecycle
from libs.directory import Standing, Watchers
from libs.wire.codes import Code, Refusal
from libs.wire.frames import PresenceChange, PresenceChanges
from services.gateway import watching as module
from services.gateway.metrics import GatewayMetrics
from services.gateway.watching import Watching
from tests.support.waiting import until
from tests.unit.services.gateway.fakes import FakeSocket, session

WATCHES_MAX = 5


class FakeWatchers(Watchers):
    """Remembers who is watched, and what was announced."""

    def __init__(self) -> None:
        self.watched: set[str] = set()
        self.announced: dict[str, Standing] = {}
        self.calls = 0
        self.is_away = False

    async def change(self, gateway: str, watched: Mapping[str, bool]) -> dict[str, Standing]:
        assert gateway == "g1"
        self.calls += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise RedisConnectionError
        for user, is_watched in watched.items():
            (self.watched.add if is_watched else self.watched.discard)(user)
        return {user: self.announced[user] for user in watched if watched[user] and user in self.announced}


@asynccontextmanager
async def running(watchers: FakeWatchers) -> AsyncIterator[Watching]:
    """Subscriptions that are noted."""
    metrics = GatewayMetrics(CollectorRegistry())
    watching = Watching(watchers, "g1", metrics, linger_s=0, watches_max=WATCHES_MAX)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watching.run())
        yield watching
        await lifecycle.cancel([task])


@pytest.fixture
def watchers() -> FakeWatchers:
    return FakeWatchers()


def updates(socket: FakeSocket) -> list[tuple[str, str, int | None]]:
    """What a socket was told."""
    assert {event for event, _, _ in socket.emitted} <= {"presence_update"}
    return [(body["userId"], body["status"], body["lastSeen"]) for _, body, _ in socket.emitted]


def statuses(socket: FakeSocket) -> list[str]:
    return [status for _, status, _ in updates(socket)]


async def noted(watchers: FakeWatchers, *users: str) -> None:
    await until(lambda: watchers.watched == set(users), 5, f"{users} to be watched")


async def test_who_watches_is_told_at_once_what_is_known(watchers: FakeWatchers) -> None:
    """Through the directory the first time, from memory the next; a repeated wish is answered again."""
    watchers.announced["bala"] = Standing("offline", 10, 7)
    (asha, phone), (chitra, other) = session("asha", "s1"), session("chitra", "s2")
    async with running(watchers) as watching:
        watching.watch(asha, ["bala"])
        await until(lambda: updates(phone), 5, "the first update")
        watching.watch(chitra, ["bala"])
        watching.watch(asha, ["bala"])
        assert updates(phone) == [("bala", "offline", 7), ("bala", "offline", 7)]
        assert updates(other) == [("bala", "offline", 7)]
        assert watchers.calls == 1


async def test_a_change_is_told_once_whichever_way_it_comes(watchers: FakeWatchers) -> None:
    """By announcement, again, out of order, or with the directory's answer: only what is newer and differs."""
    asha, phone = session("asha")
    async with running(watchers) as watching:
        watching.watch(asha, ["bala"])
        await noted(watchers, "bala")
        for status, at_ms in (("online", 10), ("online", 10), ("away", 12), ("offline", 11), ("away", 13)):
            watching.take(PresenceChanges((PresenceChange("bala", status, 5, at_ms),)))
        watching.learn("bala", Standing("busy", 12, 5))
        watching.learn("nobody", Standing("busy", 12, 5))
        assert statuses(phone) == ["online", "away"]


async def test_somebody_who_was_never_here_has_no_last_seen(watchers: FakeWatchers) -> None:
    """And who is here was seen now, whenever they came."""
    asha, phone = session("asha")
    async with running(watchers) as watching:
        watching.watch(asha, ["bala"])
        watching.learn("bala", Standing("offline", 10, 0))
        watching.learn("bala", Standing("online", 11, 5))
        (_, _, never), (_, _, now) = updates(phone)
        assert never is None
        assert now is not None
        assert now > 1_000_000


async def test_who_stops_watching_is_told_no_more(watchers: FakeWatchers) -> None:
    """Others go on; with the last, the directory is told. Who goes has stopped."""
    (asha, phone), (chitra, other) = session("asha", "s1"), session("chitra", "s2")
    async with running(watchers) as watching:
        for each in (asha, chitra):
            watching.watch(each, ["bala", "devi"])
        await noted(watchers, "bala", "devi")
        watching.unwatch(asha, ["bala", "nobody"])
        watching.learn("bala", Standing("online", 10, 5))
        assert (statuses(phone), statuses(other)) == ([], ["online"])
        watching.forget(chitra)
        watching.forget(chitra)
        await noted(watchers, "devi")
        watching.forget(asha)
        await noted(watchers)
        assert len(watching) == 0
        assert not watching._by_session
        assert watching._watches == 0


async def test_one_socket_watches_only_so_many(watchers: FakeWatchers) -> None:
    """All or nothing; who is watched already does not count twice."""
    asha, _ = session("asha")
    async with running(watchers) as watching:
        watching.watch(asha, ["a", "b", "c", "d"])
        with pytest.raises(Refusal) as refused:
            watching.watch(asha, ["a", "e", "f"])
        assert refused.value.code is Code.TOO_MANY
        watching.watch(asha, ["a", "b", "e"])
        await noted(watchers, "a", "b", "c", "d", "e")


async def test_a_gateway_watches_only_so_many(watchers: FakeWatchers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it subscriptions are refused, retryable, and nothing is kept of them."""
    monkeypatch.setattr(module, "_WATCHES_MAX", 3)
    (asha, _), (chitra, _) = session("asha", "s1"), session("chitra", "s2")
    async with running(watchers) as watching:
        watching.watch(asha, ["a", "b"])
        await noted(watchers, "a", "b")
        with pytest.raises(Refusal) as refused:
            watching.watch(chitra, ["a", "b"])
        assert refused.value.code is Code.OVERLOADED
        with pytest.raises(Refusal):
            await watching.wait_known(["x", "y"], 1.0)
        watching.forget(asha)
        await noted(watchers)
        watching.watch(chitra, ["a", "b"])


async def test_while_the_broker_is_away_wishes_wait_bounded(
    watchers: FakeWatchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last wish for each person is what holds when it is back."""
    monkeypatch.setattr(module, "_WATCHES_MAX", 6)
    watchers.is_away = True
    asha, _ = session("asha")
    async with running(watchers) as watching:
        for _ in range(10):
            watching.watch(asha, ["a", "b"])
            watching.unwatch(asha, ["a", "b"])
        assert len(watching._notes) <= 6
        watching.watch(asha, ["a"])
        for name in ("c", "d", "e", "f", "g", "h"):
            with suppress(Refusal):
                watching.watch(asha, [name])
            watching.unwatch(asha, [name])
        with pytest.raises(Refusal) as refused:
            watching.watch(asha, ["i"])
        assert refused.value.code is Code.UNAVAILABLE
        watchers.is_away = False
        await noted(watchers, "a")


async def test_a_gateway_that_revives_watches_everyone_again(watchers: FakeWatchers) -> None:
    """A wiped broker may announce by a clock that is behind: it is believed, and nothing that holds is told again."""
    asha, phone = session("asha")
    async with running(watchers) as watching:
        watching.watch(asha, ["bala", "devi"])
        for user in ("bala", "devi"):
            watching.learn(user, Standing("online", 1000, 5))
        watchers.watched.clear()
        watchers.announced = {"bala": Standing("online", 20, 5), "devi": Standing("away", 20, 5)}
        watching.rewatch()
        await noted(watchers, "bala", "devi")
        await until(lambda: len(statuses(phone)) == 3, 5, "what changed meanwhile")
        assert updates(phone)[-1][:2] == ("devi", "away")


async def test_asking_once_watches_for_a_moment(watchers: FakeWatchers) -> None:
    """What comes meanwhile is the answer; who is not heard of in time is not in it; nobody stays watched."""
    async with running(watchers) as watching, asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(watching.wait_known(["bala", "devi"], 0.2))
        await noted(watchers, "bala", "devi")
        watching.learn("bala", Standing("offline", 10, 7))
        assert await asked == {"bala": Standing("offline", 10, 7)}
        await noted(watchers)
        assert len(watching) == 0


async def test_asking_about_somebody_who_is_watched_leaves_them_watched(watchers: FakeWatchers) -> None:
    """And who is known is known at once."""
    asha, _ = session("asha")
    async with running(watchers) as watching:
        watching.watch(asha, ["bala"])
        watching.learn("bala", Standing("online", 10, 7))
        assert await watching.wait_known(["bala"], 5.0) == {"bala": Standing("online", 10, 7)}
        assert watching.known(["bala", "devi"]) == {"bala": Standing("online", 10, 7)}
        assert len(watching) == 1
