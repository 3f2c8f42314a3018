"""Broadcasts on this gateway: who hears them, once, and what becomes of those who move."""

import asyncio
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from libs.directory import Directory
from libs.wire.frames import Alarm, Moved, Places
from services.gateway.alarms import Alarms
from services.gateway.catchup import CatchUp
from services.gateway.metrics import GatewayMetrics
from services.gateway.sessions import Acks, Session, Sessions, State
from tests.unit.services.gateway.fakes import FakeBroker, FakeSocket, FakeWheel, session
from tests.unit.services.gateway.test_catchup import FakeUplink

_HERE, _THERE = Places(mandal="m1", village="v1"), Places(mandal="m1", village="v2")


class FakeDirectory(Directory):
    """Who was told to live where."""

    def __init__(self) -> None:
        super().__init__(FakeBroker())
        self.homes: list[tuple[str, Places]] = []

    async def settle(self, homes: Mapping[str, Places]) -> None:
        """Homes."""
        self.homes += homes.items()


class Post:
    """A gateway's alarms, and the sessions they are for."""

    def __init__(self) -> None:
        self.uplink = FakeUplink()
        self.sessions = Sessions()
        self.directory = FakeDirectory()
        acks = Acks()
        self.catchup = CatchUp("g1", self.sessions, self.uplink, acks, FakeWheel(), page_timeout_s=60.0)
        metrics = GatewayMetrics(CollectorRegistry())
        self.alarms = Alarms(self.directory, self.sessions, self.catchup, acks, metrics, linger_s=0)

    def open(self, user: str, places: Places, *, is_welcome: bool = True) -> tuple[Session, FakeSocket]:
        """A session of somebody who lives there."""
        one, socket = session(user, f"socket of {user}")
        self.sessions.add(one)
        one.places = places
        if is_welcome:
            one.state, one.walk = State.LIVE, None
            self.alarms.welcome(one)
        return one, socket

    def sound(self, number: int = 1, level: str = "village", *places: str) -> None:
        """A broadcast."""
        self.alarms.sound(Alarm(f"{number:032x}", level, places or ("v1",), b"{}"))

    async def homes(self) -> list[tuple[str, Places]]:
        """What the directory was told so far."""
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self.alarms.run())
            await self.alarms._homes.wait_written()
            work.cancel()
        return self.directory.homes


def test_who_lives_there_hears_it_once_a_socket() -> None:
    """However often it is sounded, and however many of their places it names; a second one is another."""
    post = Post()
    (_, asha), (_, bala) = post.open("asha", _HERE), post.open("bala", _THERE)
    for _ in range(2):
        post.sound(1, "village", "v1", "v9", "v1")
    assert [name for name, _, _ in asha.emitted] == ["emergency_broadcast"]
    assert asha.emitted[0][2] is not None
    assert not bala.emitted
    post.sound(2, "mandal", "m1")
    assert (len(asha.emitted), len(bala.emitted)) == (2, 1)


async def test_it_is_not_held_back_by_what_is_due() -> None:
    """A phone that is still fetching older messages hears it now."""
    post = Post()
    asha, socket = post.open("asha", _HERE)
    post.catchup.start(asha)
    post.sound()
    assert len(socket.emitted) == 1
    asha.stop_timers()


def test_who_is_gone_or_not_welcome_yet_hears_nothing() -> None:
    """What was said before the welcome is due; a session that is gone stays out of the index."""
    post = Post()
    gone, one = post.open("gone", _HERE)
    _, two = post.open("joining", _HERE, is_welcome=False)
    post.sessions.remove(gone)
    post.alarms.forget(gone)
    post.alarms.welcome(gone)
    post.sound()
    assert not one.emitted
    assert not two.emitted


async def test_who_moves_hears_what_is_for_the_new_place_and_asks_what_was() -> None:
    """To be told of a move twice is to be told nothing; the directory hears of it."""
    post = Post()
    asha, socket = post.open("asha", _HERE)
    for _ in range(2):
        post.alarms.moved(Moved("asha", _THERE))
    assert len(post.uplink.asked) == 1
    post.sound(1, "village", "v1")
    post.sound(2, "village", "v2")
    assert len(socket.emitted) == 1
    assert await post.homes() == [("asha", _THERE)]
    asha.stop_timers()


def test_who_moves_while_signing_in_keeps_the_newer_place() -> None:
    """What the router said of them before is older."""
    post = Post()
    asha, _ = post.open("asha", Places(), is_welcome=False)
    post.alarms.moved(Moved("asha", _THERE))
    assert asha.has_moved
    assert asha.places == _THERE
    assert not post.uplink.asked


async def test_a_cluster_that_forgot_is_told_again_where_everybody_lives() -> None:
    """Those who are welcome: the others are told when they are."""
    post = Post()
    post.open("asha", _HERE)
    post.open("bala", _THERE, is_welcome=False)
    await post.homes()
    post.alarms.retell()
    assert await post.homes() == [("asha", _HERE)] * 2


def test_a_socket_remembers_a_bounded_number_of_broadcasts() -> None:
    """The oldest is forgotten first."""
    post = Post()
    _, socket = post.open("asha", _HERE)
    for number in range(300):
        post.sound(number)
    post.sound(299)
    assert len(socket.emitted) == 300
    post.sound(0)
    assert len(socket.emitted) == 301
