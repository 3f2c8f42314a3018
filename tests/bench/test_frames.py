"""What a frame costs a gateway: one that comes in, and one that goes out to many."""

import asyncio
from typing import Any, Final

from prometheus_client import CollectorRegistry
from pytest_benchmark.fixture import BenchmarkFixture

from libs.directory import Directory, Watchers
from libs.identity import Claims
from libs.wire.frames import Emit
from services.gateway import packets
from services.gateway.alarms import Alarms
from services.gateway.catchup import CatchUp
from services.gateway.downlink import DownlinkReader
from services.gateway.fence import Fence
from services.gateway.metrics import GatewayMetrics
from services.gateway.questions import Questions
from services.gateway.sessions import Acks, Session, Sessions, State
from services.gateway.typists import Typists
from services.gateway.watching import Watching
from tests.bench.sockets import Place
from tests.unit.services.gateway.engine import wire
from tests.unit.services.gateway.fakes import FAR_MS, FakeBroker, uplink

_MANY: Final = 500
_MESSAGE: Final = b'{"id":"m","content":"%b"}' % (b"x" * 300)


# --- in -----------------------------------------------------------------------------------------------------


async def test_an_event_and_its_answer(benchmark: BenchmarkFixture) -> None:
    """From the bytes that were read to those that are written."""
    event = b'["send_message",%b]' % _MESSAGE
    frame = wire.text(f"421{event.decode()}")
    async with asyncio.TaskGroup() as tasks:
        place = Place(tasks)
        _, websocket, transport = await place.joined()

        def answer() -> None:
            websocket.data_received(frame)
            place.turn()

        benchmark(answer)
        assert set(transport.writes) == {packets.answer(1, event).frame()}


async def test_an_acknowledgement(benchmark: BenchmarkFixture) -> None:
    """From the bytes that were read to the application."""
    frame = wire.text("4312345[]")
    async with asyncio.TaskGroup() as tasks:
        _, websocket, transport = await Place(tasks).joined()
        benchmark(websocket.data_received, frame)
        assert transport.writes == []


# --- out ----------------------------------------------------------------------------------------------------


def test_a_frame_for_many(benchmark: BenchmarkFixture) -> None:
    """Made once, asked for by five hundred."""

    def make() -> set[int]:
        packet = packets.event("new_message", _MESSAGE, 7)
        return {id(packet.frame()) for _ in range(_MANY)}

    assert len(benchmark(make)) == 1


async def test_a_message_to_many_sessions(benchmark: BenchmarkFixture) -> None:
    """A router's word for five hundred people, each with a socket here: what follows, up to their transports."""
    async with asyncio.TaskGroup() as tasks:
        place, sessions = Place(tasks), Sessions()
        transports = [await _signed_in(place, sessions, f"user-{number}") for number in range(_MANY)]
        frames = _frames(place, sessions)
        emit = Emit(tuple(sessions.users), "new_message", _MESSAGE, conversation_id="group:g", seq=1)

        def tell() -> None:
            frames._take(emit)
            place.turn()
            for transport in transports:
                transport.writes.clear()

        benchmark(tell)
        frames._take(emit)
        place.turn()
        assert len({id(frame) for transport in transports for frame in transport.writes}) == 1


async def _signed_in(place: Place, sessions: Sessions, user_id: str) -> Any:
    socket, _, transport = await place.joined()
    session = Session(socket, Claims(user_id, 0, FAR_MS))
    session.state, session.walk = State.LIVE, None
    sessions.add(session)
    return transport


def _frames(place: Place, sessions: Sessions) -> DownlinkReader:
    broker, acks, metrics, door = FakeBroker(), Acks(), GatewayMetrics(CollectorRegistry()), None
    catchup = CatchUp("g1", sessions, uplink(broker), acks, place.wheel, page_timeout_s=1)
    return DownlinkReader(
        broker,
        "g1",
        sessions,
        catchup,
        door,  # type: ignore[arg-type] # nobody signs in
        Questions("g1"),
        Typists(sessions, typing_s=10),
        Watching(Watchers(broker), "g1", metrics, linger_s=0, watches_max=10),
        Alarms(Directory(broker), sessions, catchup, acks, metrics, linger_s=0),
        acks,
        Fence(),
        lambda: None,
        metrics,
    )
