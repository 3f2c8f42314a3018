"""Seats on their way to the directory: what holds is written, once a user, however long the broker is away."""

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from libs import lifecycle
from libs.directory import Seat
from services.gateway.fence import Fence
from services.gateway.heartbeat import Heartbeat
from services.gateway.sessions import Sessions, State
from tests.unit.services.gateway.fakes import session


class FakeDirectory:
    """Who has a seat; away when told."""

    def __init__(self) -> None:
        self.seats: dict[str, Seat] = {}
        self.is_away = False
        self.asked = asyncio.Event()

    async def change(self, gateway: str, seats: Mapping[str, Seat], grace_ms: int = 0) -> None:
        assert gateway == "g1"
        assert grace_ms
        self.asked.set()
        if self.is_away:
            raise RedisConnectionError
        self.seats.update(seats)

    async def seated(self, gateway: str) -> int:
        return len(await self.users_on(gateway))

    async def users_on(self, gateway: str) -> set[str]:
        assert gateway == "g1"
        return {user for user, seat in self.seats.items() if seat is not Seat.DROPPED}


async def test_a_seat_is_dropped_however_many_came_and_went_in_an_outage() -> None:
    """A queue of changes would fill up, and forget that somebody left: they would be here for ever."""
    directory = FakeDirectory()
    given: dict[str, Any] = {"partitions": 1, "linger_s": 0, "presence_grace_s": 0.6, "fence": Fence()}
    given |= dict.fromkeys(("read_up_to", "reviving", "revived"))
    heartbeat = Heartbeat(None, directory, "g1", Sessions(), None, **given)  # type: ignore[arg-type]
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(heartbeat._seats.run())
        heartbeat.show("rama")
        await heartbeat.wait_seated()
        directory.is_away = True
        directory.asked.clear()
        heartbeat.show("sita")
        await directory.asked.wait()
        for _ in range(150_000):
            heartbeat.seat("ravi")
            heartbeat.unseat("ravi")
        heartbeat.unseat("sita")
        heartbeat.unseat("rama")
        assert len(heartbeat._seats) == 4
        directory.is_away = False
        await heartbeat.wait_seated()
        assert directory.seats == dict.fromkeys(("rama", "sita", "ravi"), Seat.DROPPED)
        await lifecycle.cancel([writing])


async def test_seats_that_a_failover_lost_are_taken_again_and_those_it_brought_back_are_dropped() -> None:
    """Only once the difference has lasted: then the gateway revives, and who has not been let in is not shown."""
    directory, sessions, revivals = FakeDirectory(), Sessions(), []
    given: dict[str, Any] = {
        "partitions": 1,
        "linger_s": 0,
        "presence_grace_s": 0.6,
        "fence": Fence(),
        "read_up_to": None,
    }
    given |= {"reviving": lambda: None, "revived": lambda: revivals.append(dict(directory.seats))}
    heartbeat = Heartbeat(None, directory, "g1", sessions, None, **given)  # type: ignore[arg-type]
    heartbeat._must_revive = False
    for user, state in (("rama", State.LIVE), ("sita", State.LIVE), ("lata", State.JOINING)):
        one, _ = session(user, user)
        one.state = state
        sessions.add(one)
    directory.seats = {"rama": Seat.SHOWN, "ravana": Seat.SHOWN}
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(heartbeat._seats.run())
        for is_amiss in (False, False, True):
            await heartbeat._check_seats()
            assert heartbeat._must_revive is is_amiss
        await heartbeat._revive(())
        await heartbeat._check_seats()
        await lifecycle.cancel([writing])
    assert revivals == [{"rama": Seat.SHOWN, "sita": Seat.SHOWN, "lata": Seat.TAKEN, "ravana": Seat.DROPPED}]
    assert heartbeat._must_revive is False


async def test_who_comes_or_goes_while_the_broker_tells_is_not_amiss() -> None:
    """A gateway that thousands reconnect to would revive for nothing, and have all of them fetch again."""
    sessions = Sessions()
    stays, comes, goes = (session(user, user)[0] for user in ("stays", "comes", "goes"))

    class Busy(FakeDirectory):
        async def users_on(self, gateway: str) -> set[str]:
            there = await super().users_on(gateway)
            sessions.add(comes)
            sessions.remove(goes)
            return there

        async def seated(self, gateway: str) -> int:
            assert gateway == "g1"
            return 5 + len(self.seats)

    directory = Busy()
    given: dict[str, Any] = {"partitions": 1, "linger_s": 0, "presence_grace_s": 0.6, "fence": Fence()}
    given |= dict.fromkeys(("read_up_to", "reviving", "revived"))
    heartbeat = Heartbeat(None, directory, "g1", sessions, None, **given)  # type: ignore[arg-type]
    heartbeat._must_revive = False
    sessions.add(stays)
    sessions.add(goes)
    directory.seats = {"stays": Seat.SHOWN, "goes": Seat.SHOWN}
    for _ in range(3):
        await heartbeat._check_seats()
    assert heartbeat._must_revive is False
    assert len(heartbeat._seats) == 0


async def test_who_was_told_to_come_back_is_missed_later_than_who_left() -> None:
    """Each by themselves, in one batch; who is back before it is written is missed by nobody."""
    graces: dict[str, int] = {}

    class Watchful(FakeDirectory):
        async def change(self, gateway: str, seats: Mapping[str, Seat], grace_ms: int = 0) -> None:
            await super().change(gateway, seats, grace_ms)
            graces.update({user: grace_ms for user, seat in seats.items() if seat is Seat.DROPPED})

    directory = Watchful()
    given: dict[str, Any] = {"partitions": 1, "linger_s": 0, "presence_grace_s": 0.6, "fence": Fence()}
    given |= dict.fromkeys(("read_up_to", "reviving", "revived"))
    heartbeat = Heartbeat(None, directory, "g1", Sessions(), None, **given)  # type: ignore[arg-type]
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(heartbeat._seats.run())
        heartbeat.unseat("sent", comes_back=True)
        heartbeat.unseat("left")
        heartbeat.unseat("back", comes_back=True)
        heartbeat.show("back")
        await heartbeat.wait_seated()
        assert graces == {"sent": 5000, "left": 600}
        heartbeat.unseat("back")
        heartbeat.is_draining = True
        await heartbeat.wait_seated()
        assert graces["back"] == 5000
        assert not heartbeat._coming_back
        await lifecycle.cancel([writing])
