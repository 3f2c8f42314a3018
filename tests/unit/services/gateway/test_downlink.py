"""What a router says reaches its socket, sealed or not."""

import asyncio
from collections.abc import Collection
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs import lifecycle
from libs.broker import Broker
from libs.directory import Directory, Watchers
from libs.identity import Envelopes
from libs.streams import consumer
from libs.wire import codec
from libs.wire.events import Draft
from libs.wire.frames import Answer, CanaryReply, Emit, Origin, SealedFrame, SealedReply, Section, Send, Sender
from services.gateway.alarms import Alarms
from services.gateway.catchup import CatchUp
from services.gateway.downlink import DownlinkReader
from services.gateway.fence import Fence
from services.gateway.metrics import GatewayMetrics
from services.gateway.questions import Questions
from services.gateway.sessions import Acks, Session, Sessions, State
from services.gateway.typists import Typists
from services.gateway.watching import Watching
from tests.unit.services.gateway.fakes import FakeBroker, FakeSocket, FakeWheel, session, uplink

OURS = Envelopes(["a-secret-of-the-cluster-thirty-two"])
OTHERS = Envelopes(["another-cluster's-secret-thirty-two"])
STATUS = Emit(("asha",), "message_delivery_status", b'{"status":"read"}')


def reader(envelopes: Envelopes | None = OURS) -> tuple[DownlinkReader, FakeSocket]:
    """A gateway on which Asha has a socket."""
    broker: Broker = FakeBroker()
    sessions = Sessions()
    asha: Session
    asha, socket = session("asha", "ashas-socket")
    asha.state = State.LIVE
    sessions.add(asha)
    acks = Acks()
    catchup = CatchUp("g1", sessions, uplink(broker), acks, FakeWheel(), page_timeout_s=1)
    metrics = GatewayMetrics(CollectorRegistry())
    alarms = Alarms(Directory(broker), sessions, catchup, acks, metrics, linger_s=0)
    typists = Typists(sessions, typing_s=10)
    watching = Watching(Watchers(broker), "g1", metrics, linger_s=0, watches_max=10)
    door: Any = None
    down = DownlinkReader(
        broker,
        "g1",
        sessions,
        catchup,
        door,
        Questions("g1"),
        typists,
        watching,
        alarms,
        acks,
        Fence(),
        lambda: None,
        metrics,
        envelopes,
    )
    return down, socket


def test_a_sealed_event_reaches_who_it_is_for() -> None:
    """As if it had not been sealed."""
    down, socket = reader()
    down._take(OURS.seal_reply(STATUS))
    assert socket.emitted == [("message_delivery_status", {"status": "read"}, None)]


def test_a_seal_that_is_not_ours_is_counted() -> None:
    """And harms nothing."""
    down, socket = reader()
    for sealed in (OTHERS.seal_reply(STATUS), SealedReply(b"")):
        down._take(sealed)
    assert socket.emitted == []
    assert down._metrics.unreadable._value.get() == 2


def test_without_a_secret_nothing_sealed_is_read() -> None:
    """There is nothing that was sealed for such a gateway."""
    down, socket = reader(None)
    down._take(OURS.seal_reply(STATUS))
    assert socket.emitted == []


def test_a_refusal_of_what_could_not_be_opened_reaches_its_socket() -> None:
    """Its router knows neither who asked nor what: only where the answer goes."""
    down, socket = reader()
    draft = Draft("group:g", "c", "c", "text", "x", is_anonymous=True)
    sealed = OURS.closed(Send(Origin("g1", "ashas-socket", 5), Sender("asha", "", ""), draft, 1))
    assert isinstance(sealed, SealedFrame)
    down._take(Answer(sealed.origin.session, sealed.origin.ack, b'{"ok":false}'))
    assert socket.answered == [(5, {"ok": False})]


def test_a_frame_of_a_newer_router_holds_up_nothing_beside_it() -> None:
    """It is counted, and the rest of its entry reaches who it is for."""
    down, socket = reader()
    entry = msgspec.msgpack.encode([[1, 1, [["unheard-of", 1], STATUS]]])
    down._take_entry(consumer.Entry("1-1", entry))
    assert socket.emitted == [("message_delivery_status", {"status": "read"}, None)]
    assert down._metrics.unreadable._value.get() == 1


@pytest.mark.parametrize(
    ("event", "is_patient"),
    [
        ("message_delivery_status", True),
        ("message_read", True),
        ("message_read_confirmed", False),
        ("new_message", False),
        ("message_error", False),
    ],
)
def test_ticks_may_wait_for_company_and_nothing_else_may(event: str, is_patient: bool) -> None:
    """People do not see a fifth of a second in them."""
    down, socket = reader()
    down._take(Emit(("asha",), event, b"{}"))
    assert socket.emitted == [(event, {}, None)]
    assert socket.patient == ([event] if is_patient else [])


def test_what_comes_with_an_answer_does_not_wait() -> None:
    """The first tick: its sender looks at it."""
    down, socket = reader()
    down._take(Answer("ashas-socket", 5, b"{}", emits=(("message_delivery_status", b'{"status":"sent"}'),)))
    assert (socket.answered, socket.patient) == ([(5, {})], [])
    assert socket.emitted == [("message_delivery_status", {"status": "sent"}, None)]


def test_a_message_that_is_to_be_confirmed_does_not_wait() -> None:
    """It goes out under the number that confirms it."""
    down, socket = reader()
    (asha,) = down._sessions.of_user("asha")
    asha.walk = None
    down._take(Emit(("asha",), "new_message", b"{}", seq=1, conversation_id="group:g", mark=7))
    assert (socket.emitted, socket.patient) == ([("new_message", {}, 1)], [])
    expected = asha.take_expected(1)
    assert expected is not None
    assert (expected.confirms, expected.mark) == ((("group:g", (1,)),), 7)


def test_what_is_refused_is_fetched_before_anything_later_is_shown() -> None:
    """A broker that forgot how far tokens had come gives an owner one that is too low: it says what it says once."""
    down, socket = reader()
    (asha,) = down._sessions.of_user("asha")
    asha.walk = None

    def read(token: int, frame: Emit) -> None:
        down._take_entry(consumer.Entry(f"5-{token}", codec.pack_downlink([Section(1, token, (frame,))])))

    def message(seq: int) -> Emit:
        return Emit(("asha", "who is elsewhere"), "new_message", b"{}", "group:g", seq)

    def held() -> list[tuple[str, int]] | None:
        return None if asha.walk is None else list(asha.walk.held)

    read(7, STATUS)
    read(5, STATUS)
    assert held() is None
    read(6, message(1))
    read(8, message(2))
    assert held() == [("group:g", 2)]
    assert socket.emitted == [("message_delivery_status", {"status": "read"}, None)]
    asha.stop_timers()


def test_one_who_is_only_joining_hears_no_ticks() -> None:
    """What it missed it finds in its history."""
    down, socket = reader()
    (asha,) = down._sessions.of_user("asha")
    asha.state = State.JOINING
    down._take(STATUS)
    assert socket.emitted == []


async def test_what_is_read_while_the_streams_are_made_anew_is_read_again_and_taken_once() -> None:
    """Else a status could go back, when what is said to a gateway that revives is taken twice."""
    down, socket = reader()
    entry = consumer.Entry("5-1", codec.pack_downlink([Section(1, 1, (STATUS,))]))
    assert await _read(down, [entry], [entry], rewound={0}) == ["0-0", "0-0", "5-1"]
    assert len(socket.emitted) == 1


async def test_what_another_server_says_under_an_id_that_was_taken_is_taken() -> None:
    """A failover lost an entry, and the clock of who took over comes to its time once more."""
    down, socket = reader()
    lost, said = (codec.pack_downlink([Section(1, token, (STATUS,))]) for token in (1, 2))
    await _read(down, [consumer.Entry("5-1", lost)])
    down.rewind()
    await _read(down, [consumer.Entry("5-1", said)])
    assert len(socket.emitted) == 2


async def _read(down: DownlinkReader, *found: list[consumer.Entry], rewound: Collection[int] = ()) -> list[str]:
    """Have a reader read this, one after the other; the positions it read from. In `rewound` reads it is rewound."""
    stream = list(down.positions)[1]
    positions: list[str] = []
    reached = asyncio.Event()

    async def read(_: Any, asked: dict[str, str], **__: Any) -> dict[str, list[consumer.Entry]]:
        number = len(positions)
        positions.append(asked[stream])
        if number in rewound:
            down.rewind()
        if number < len(found):
            return {stream: found[number]}
        reached.set()
        await asyncio.Event().wait()
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumer.Reads, "read", read)
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(down.run())
            await reached.wait()
            await lifecycle.cancel([running])
    return positions


def test_a_canary_that_came_back_is_noted() -> None:
    """And nobody else hears of it."""
    down, socket = reader()
    heard: list[CanaryReply] = []
    down._heard = heard.append
    down._take(CanaryReply(3, 5))
    assert heard == [CanaryReply(3, 5)]
    assert socket.emitted == []


async def test_who_reads_anew_takes_nothing_twice() -> None:
    """Streams are read from their beginning after a failover: a status that was told is not told after a later one."""
    down, socket = reader()
    stream = list(down.positions)[1]
    packed = codec.pack_downlink([Section(1, 1, (STATUS,))])
    batches = [["5-1", "5-2"], ["5-1", "5-2", "5-3"]]
    reached = asyncio.Event()

    async def read(*_: Any, **__: Any) -> dict[str, list[consumer.Entry]]:
        if batches:
            return {stream: [consumer.Entry(one, packed) for one in batches.pop(0)]}
        reached.set()
        await asyncio.Event().wait()
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumer.Reads, "read", read)
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(down.run())
            await reached.wait()
            await lifecycle.cancel([running])
    assert len(socket.emitted) == 3
