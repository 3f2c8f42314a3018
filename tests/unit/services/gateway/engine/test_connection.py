"""What becomes of each packet, whatever carries it: with a carrier that records, and a wheel turned by hand."""

import asyncio
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.gateway.engine import packets
from services.gateway.engine.connection import CLOSE_TIMEOUT_S, Breach, Connection, Rules
from services.gateway.engine.packets import Packet
from services.gateway.engine.websocket import Upgrade
from tests.unit.services.gateway.fakes import FakeCarrier, FakeWheel

_PING_INTERVAL_S: Final = 25.0
_PING_TIMEOUT_S: Final = 60.0
_OUTBOX_MAX_BYTES: Final = 1_000
_UPGRADE_TIMEOUT_S: Final = 10.0


class Spy(Connection):
    """Remembers what its client said."""

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules, "g1.x", "203.0.113.7")
        self.heard: list[str | bytes] = []
        self.times_gone = 0

    def message(self, text: str) -> None:
        """A message; `no` is none."""
        if text == "no":
            raise Breach
        self.heard.append(text)

    def binary(self, data: bytes) -> None:
        """A binary message."""
        self.heard.append(data)

    def begun(self) -> None:
        """It is open."""

    def gone(self) -> None:
        """It is closed."""
        self.times_gone += 1

    async def settled(self) -> None:
        """All that came is taken."""


class Scene:
    """A connection and what it shares with others."""

    def __init__(self, *, ping_timeout_s: float = _PING_TIMEOUT_S, ping_interval_s: float = _PING_INTERVAL_S) -> None:
        self.wheel = FakeWheel()
        self.overflows = 0
        self.wasted = 0
        self.connection = Spy(
            Rules(
                self.wheel,
                ping_interval_s=ping_interval_s,
                ping_timeout_s=ping_timeout_s,
                outbox_max_bytes=_OUTBOX_MAX_BYTES,
                frame_max_bytes=1_000,
                overflowed=self._overflow,
                wasted=self._waste,
            )
        )

    def _overflow(self, connection: Connection) -> None:
        assert connection is self.connection
        self.overflows += 1

    def _waste(self, _: Connection) -> None:
        self.wasted += 1

    def say(self, *texts: str) -> None:
        """Packets to the client."""
        for text in texts:
            self.connection.say(Packet(text.encode()))

    def carried(self) -> FakeCarrier:
        """From now on by this WebSocket."""
        carrier = FakeCarrier()
        self.connection.carry(carrier)
        return carrier

    def probed(self) -> tuple["ProbingWebSocket", Upgrade]:
        """A WebSocket is on its way."""
        websocket = ProbingWebSocket()
        upgrade = Upgrade(self.connection, websocket, self.wheel)  # type: ignore[arg-type] # it is a fake
        websocket._taker = upgrade
        return websocket, upgrade

    def is_only_polled(self) -> bool:
        """Whether no WebSocket carries it, nor is on its way to."""
        return self.connection.carrier is None and self.connection.probe is None

    async def polled(self) -> list[str]:
        """What a poll brings."""
        return (await self.connection.poll()).decode().split(packets.SEPARATOR)


class ProbingWebSocket(FakeCarrier):
    """What a probe needs of a WebSocket."""

    def __init__(self) -> None:
        super().__init__()
        self._taker: Upgrade | Connection | None = None


async def _turn() -> None:
    """What was asked of the loop is done, and what that asked of it."""
    for _ in range(3):
        await asyncio.sleep(0)


# --- what comes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "0", "2", "2probe", "6", "7", "x", "b4", "é", "4no"])
def test_what_is_no_packet_is_a_breach(text: str) -> None:
    """A client sends messages, pongs, and its goodbye; the rest belongs to a server or to a probe."""
    with pytest.raises(Breach):
        Scene().connection.take(text)


def test_messages_are_taken_in_order_whatever_carries_them() -> None:
    """Text as it is; binary as a frame, or base64 after a `b` where it is polled."""
    connection = Scene().connection
    connection.take("4one")
    connection.take_polled("4")
    connection.take_polled("bAQID")
    connection.take_binary(b"\x04")
    assert connection.heard == ["one", "", b"\x01\x02\x03", b"\x04"]


@pytest.mark.parametrize("text", ["bA", "b!!!!", "bé", "b AQID"])
def test_what_is_no_base64_is_a_breach(text: str) -> None:
    """To the letter."""
    with pytest.raises(Breach):
        Scene().connection.take_polled(text)


# --- pings --------------------------------------------------------------------------------------------------


def test_a_ping_follows_an_interval_after_each_pong() -> None:
    """And no sooner."""
    scene = Scene()
    carrier = scene.carried()
    scene.connection.expect_ping()
    for pings in range(1, 4):
        scene.wheel.turn(_PING_INTERVAL_S - 0.1)
        assert carrier.texts == ["2"] * (pings - 1)
        scene.wheel.turn(0.1)
        assert carrier.texts == ["2"] * pings
        scene.wheel.turn(_PING_TIMEOUT_S - 0.1)
        scene.connection.take("3")
    assert scene.wasted == 0
    assert not scene.connection.closed


@pytest.mark.parametrize("is_carried", [True, False])
async def test_who_does_not_answer_a_ping_is_sent_back(is_carried: bool) -> None:
    """What else it says is no answer; it may come back at once."""
    scene = Scene()
    carrier = scene.carried() if is_carried else None
    scene.connection.expect_ping()
    scene.wheel.turn(_PING_INTERVAL_S)
    scene.connection.take("4still here")
    scene.wheel.turn(_PING_TIMEOUT_S)
    await _turn()
    assert scene.connection.closed
    assert scene.connection.times_gone == 1
    if carrier is not None:
        assert carrier.closed_with == 1012
    else:
        assert await scene.polled() == ["1"]


def test_a_pong_or_an_upgrade_that_nobody_asked_for_is_counted() -> None:
    """One more than pings; they set no timer."""
    scene = Scene()
    scene.connection.take("3")
    scene.connection.take("5")
    scene.connection.expect_ping()
    scene.wheel.turn(_PING_INTERVAL_S)
    scene.connection.take("3")
    scene.connection.take("3")
    assert scene.wasted == 3


async def test_a_connection_that_is_closed_is_not_pinged() -> None:
    """Nor timed out."""
    scene = Scene()
    carrier = scene.carried()
    scene.connection.expect_ping()
    scene.connection.close(1000)
    await _turn()
    scene.wheel.turn(_PING_INTERVAL_S + _PING_TIMEOUT_S)
    assert (carrier.sent, carrier.closed_with, scene.connection.times_gone) == ([], 1000, 1)


# --- polls --------------------------------------------------------------------------------------------------


async def test_a_poll_brings_what_waits_or_waits_itself() -> None:
    """All of it, in one body."""
    scene = Scene()
    scene.say("4one", "4two")
    assert await scene.polled() == ["4one", "4two"]
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(scene.polled())
        await _turn()
        assert not polling.done()
        scene.say("4three", "4four")
    assert polling.result() == ["4three", "4four"]


async def test_two_polls_at_a_time_are_a_breach() -> None:
    """The first goes on waiting, until whoever noticed closes the connection."""
    scene = Scene()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(scene.polled())
        await _turn()
        with pytest.raises(Breach):
            await scene.connection.poll()
        assert not polling.done()
        scene.connection.break_off()
    assert polling.result() == ["1"]


async def test_a_poll_that_waits_too_long_is_a_breach() -> None:
    """Not even a ping came: the wheel has stopped, or the clock."""
    with pytest.raises(Breach):
        await Scene(ping_interval_s=0.001, ping_timeout_s=0.001).connection.poll()


async def test_a_poll_that_was_given_up_makes_room_for_the_next() -> None:
    """Nothing was taken out for it."""
    scene = Scene()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(scene.polled())
        await _turn()
        polling.cancel()
    scene.say("4one")
    assert await scene.polled() == ["4one"]


# --- closing ------------------------------------------------------------------------------------------------


async def test_who_is_polled_hears_the_last_words_and_that_they_were_the_last() -> None:
    """Once; after that there is nothing to poll for."""
    scene = Scene()
    scene.say("4last words")
    scene.connection.close(1012)
    scene.say("4too late")
    await _turn()
    assert await scene.polled() == ["4last words", "1"]
    with pytest.raises(Breach):
        await scene.connection.poll()
    assert scene.connection.times_gone == 1


async def test_a_poll_that_waits_brings_the_last_words_and_the_end_in_one_body() -> None:
    """There may be nobody to ask for the end by the next poll."""
    scene = Scene()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(scene.polled())
        await _turn()
        scene.say("4last words")
        scene.connection.close(1012)
    assert polling.result() == ["4last words", "1"]


async def test_the_last_words_fit_into_a_full_outbox() -> None:
    """The end always does."""
    scene = Scene()
    scene.say("4" + "x" * 900)
    scene.connection.close(1012)
    await _turn()
    assert (await scene.polled())[1] == "1"


async def test_a_websocket_is_closed_with_its_code_after_what_was_said() -> None:
    """The first reason is the one that is told; who does not answer is cut off."""
    scene = Scene()
    carrier = scene.carried()
    scene.say("4last words")
    scene.connection.close(1012)
    scene.connection.close(1008)
    scene.say("4too late")
    assert not scene.connection.closed  # whoever called goes on as if it were open
    await _turn()
    assert (carrier.texts, carrier.closed_with) == (["4last words"], 1012)
    scene.wheel.turn(2 * CLOSE_TIMEOUT_S)
    assert carrier.is_aborted


async def test_a_websocket_that_takes_no_more_is_closed_once_it_has_been_read() -> None:
    """Or cut off, when it is not read."""
    scene = Scene()
    carrier = scene.carried()
    carrier.is_writable = False
    scene.say("4one", "4two")
    scene.connection.close(1012)
    await _turn()
    assert scene.connection.times_gone == 1
    assert (carrier.sent, carrier.closed_with) == ([], None)
    carrier.is_writable = True
    scene.connection.flush()
    assert (carrier.texts, carrier.closed_with) == (["4one", "4two"], 1012)
    scene.wheel.turn(2 * CLOSE_TIMEOUT_S)
    assert carrier.is_aborted


@pytest.mark.parametrize("is_carried", [True, False])
async def test_a_client_that_says_goodbye_is_gone(is_carried: bool) -> None:
    """Once, whatever else happens; a poll that waits is answered."""
    scene = Scene()
    carrier = scene.carried() if is_carried else None
    scene.connection.take("1")
    scene.connection.take("1")
    scene.connection.close(1012)
    scene.connection.break_off()
    scene.connection.carrier_lost()
    await _turn()
    assert scene.connection.times_gone == 1
    if carrier is not None:
        assert carrier.closed_with == 1000
    else:
        assert await scene.polled() == ["1"]


async def test_whoever_says_nonsense_is_closed_with_1008() -> None:
    """At once."""
    scene = Scene()
    carrier = scene.carried()
    scene.connection.break_off()
    assert (carrier.closed_with, scene.connection.times_gone) == (1008, 1)


async def test_a_websocket_that_is_lost_takes_its_connection_with_it() -> None:
    """What was not sent is still due."""
    scene = Scene()
    carrier = scene.carried()
    carrier.is_writable = False
    scene.say("4one")
    scene.connection.carrier_lost()
    assert (scene.connection.closed, scene.connection.times_gone) == (True, 1)
    assert carrier.sent == []


async def test_a_poll_that_waits_ends_when_the_connection_does() -> None:
    """With the end."""
    scene = Scene()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(scene.polled())
        await _turn()
        scene.connection.close(1012)
    assert polling.result() == ["1"]


# --- what may wait ------------------------------------------------------------------------------------------


async def test_what_may_wait_goes_before_the_next_packet() -> None:
    """The WebSocket knows when; it counts as life, as all that is said does."""
    scene = Scene()
    carrier = scene.carried()
    scene.connection.active_at = 0.0
    scene.connection.say_soon(Packet(b"4tick"))
    assert scene.connection.active_at > 0
    assert carrier.texts == []
    scene.say("4message")
    assert carrier.texts == ["4tick", "4message"]


async def test_where_nothing_can_be_sent_what_may_wait_is_kept_like_anything_else() -> None:
    """In its turn: for the next poll, or until the phone has read."""
    scene = Scene()
    scene.connection.say_soon(Packet(b"4one"))
    scene.say("4two")
    assert await scene.polled() == ["4one", "4two"]
    carrier = scene.carried()
    carrier.is_writable = False
    scene.connection.say_soon(Packet(b"4three"))
    scene.say("4four")
    carrier.is_writable = True
    scene.connection.flush()
    assert carrier.texts == ["4three", "4four"]


async def test_nothing_is_said_soon_after_goodbye() -> None:
    """It stays due."""
    scene = Scene()
    carrier = scene.carried()
    scene.connection.close(1012)
    scene.connection.say_soon(Packet(b"4tick"))
    await _turn()
    scene.connection.say_soon(Packet(b"4tock"))
    assert (carrier.soon, carrier.sent, carrier.closed_with) == ([], [], 1012)


# --- an outbox that is full ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("is_carried", [True, False])
async def test_who_does_not_read_is_sent_back_without_what_waits(is_carried: bool, is_first: bool) -> None:
    """It stays due: after a gap nothing follows."""
    scene = Scene()
    carrier = scene.carried() if is_carried else None
    if carrier is not None:
        carrier.is_writable = False
    scene.say("4" + "x" * 900)
    too_much = Packet(b"4" + b"y" * 100)
    (scene.connection.say_first if is_first else scene.connection.say)(too_much)
    scene.say("4z")
    await _turn()
    assert (scene.overflows, scene.connection.times_gone) == (1, 1)
    if carrier is not None:
        assert (carrier.sent, carrier.closed_with) == ([], 1012)
    else:
        assert await scene.polled() == ["1"]


async def test_a_websocket_that_is_read_needs_no_outbox() -> None:
    """However much is said."""
    scene = Scene()
    carrier = scene.carried()
    scene.say(*("4" + "x" * 900 for _ in range(10)))
    assert (len(carrier.sent), scene.overflows) == (10, 0)


# --- the upgrade --------------------------------------------------------------------------------------------


async def test_a_probe_ends_the_poll_that_waits_and_what_waits_goes_by_the_websocket() -> None:
    """From the client's word on."""
    scene = Scene()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(scene.polled())
        await _turn()
        websocket, upgrade = scene.probed()
        await _turn()
        assert not polling.done()
        upgrade.take("2probe")
    assert polling.result() == ["6"]
    assert websocket.texts == ["3probe"]
    scene.say("4one")
    assert await scene.polled() == ["6"]
    upgrade.take("5")
    assert websocket.texts == ["3probe", "4one"]
    scene.say("4two")
    assert websocket.texts[2:] == ["4two"]
    assert websocket._taker is scene.connection
    assert not scene.is_only_polled()


@pytest.mark.parametrize("said", [["5"], ["4one"], ["2"], [""], ["2probe", "2probe"], ["2probe", "4one"]])
async def test_a_probe_that_says_anything_else_is_a_breach_and_polling_goes_on(said: list[str]) -> None:
    """As if there had been none."""
    scene = Scene()
    websocket, upgrade = scene.probed()
    assert not scene.is_only_polled()
    for text in said[:-1]:
        upgrade.take(text)
    with pytest.raises(Breach):
        upgrade.take(said[-1])
    with pytest.raises(Breach):
        upgrade.take_binary(b"2probe")
    upgrade.break_off()
    assert websocket.closed_with == 1000
    assert scene.is_only_polled()
    scene.say("4one")
    assert await scene.polled() == ["4one"]
    assert scene.connection.times_gone == 0


async def test_an_upgrade_that_is_not_completed_is_given_up() -> None:
    """Until then polls bring nothing."""
    scene = Scene()
    websocket, upgrade = scene.probed()
    upgrade.take("2probe")
    scene.say("4one")
    scene.wheel.turn(_UPGRADE_TIMEOUT_S)
    assert websocket.closed_with == 1000
    assert await scene.polled() == ["4one"]


async def test_an_upgrade_that_is_completed_is_not_given_up_later() -> None:
    """Nor is one whose probe was lost before."""
    scene = Scene()
    first, lost = scene.probed()
    lost.carrier_lost()
    second, upgrade = scene.probed()
    upgrade.take("2probe")
    upgrade.take("5")
    scene.wheel.turn(2 * _UPGRADE_TIMEOUT_S)
    assert (first.closed_with, second.closed_with) == (None, None)
    assert scene.connection.carrier is second


async def test_a_connection_that_is_closed_while_it_is_probed_says_so_by_the_next_poll() -> None:
    """With its last words; the probe is closed, and its word comes too late."""
    scene = Scene()
    websocket, upgrade = scene.probed()
    upgrade.take("2probe")
    scene.say("4last words")
    scene.connection.close(1012)
    await _turn()
    assert websocket.closed_with == 1000
    assert await scene.polled() == ["4last words", "1"]
    with pytest.raises(Breach):
        upgrade.take("5")


# --- order --------------------------------------------------------------------------------------------------


def test_what_is_urgent_keeps_its_own_order_where_nothing_waited_before() -> None:
    """The first of it is ahead of the second, however empty the outbox was."""
    scene = Scene()
    carrier = scene.carried()
    carrier.is_writable = False
    for text in (b"4first", b"4second"):
        scene.connection.say_first(Packet(text))
    carrier.is_writable = True
    scene.connection.flush()
    assert carrier.texts == ["4first", "4second"]


class NarrowWebSocket(ProbingWebSocket):
    """Takes so many packets at a time, and says what it takes."""

    def __init__(self, model: "Model") -> None:
        super().__init__()
        self._model = model
        self._room = 0
        self.is_writable = False

    def make_room(self, room: int) -> None:
        """The phone reads."""
        self._room += room
        if self._room and not self.is_writable:
            self.is_writable = True
            if self._taker is not None:
                self._taker.flush()

    def send(self, packet: Packet) -> None:
        """A packet."""
        if packet is not packets.PROBED:
            super().send(packet)
            self._model.hear(packet.body.decode())
            self._room -= 1
            self.is_writable = self._room > 0

    def send_soon(self, packet: Packet) -> None:
        """A packet that may wait: here it need not."""
        self.send(packet)


class Model:
    """What is still to be heard: how the connection begins, what is urgent, the rest, each in order."""

    def __init__(self) -> None:
        self.beginning: list[str] = []
        self.urgent: list[str] = []
        self.rest: list[str] = []

    def set_barrier(self) -> None:
        """Nothing overtakes what waits."""
        self.beginning = [*self.beginning, *self.urgent, *self.rest]
        self.urgent, self.rest = [], []

    def hear(self, text: str) -> None:
        """The client has it: it must have been the next."""
        waiting = self.beginning or self.urgent or self.rest
        assert waiting, f"{text} was said once, and heard again"
        assert waiting.pop(0) == text


class Play(Scene):
    """A connection, what is to be heard of it, and the steps of a play."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        super().__init__()
        self.connection._rules.outbox_max_bytes = 1 << 20
        self._tasks = tasks
        self._model = Model()
        self._websocket: NarrowWebSocket | None = None
        self._upgrade: Upgrade | None = None
        self._polling: asyncio.Task[None] | None = None
        self._said = 0

    async def step(self, name: str, count: int) -> None:
        """One step, as far as it is possible now."""
        match name:
            case "say" | "soon" | "first":
                self._said += 1
                text = f"4{self._said}"
                (self._model.urgent if name == "first" else self._model.rest).append(text)
                says = {
                    "say": self.connection.say,
                    "soon": self.connection.say_soon,
                    "first": self.connection.say_first,
                }
                says[name](Packet(text.encode()))
            case "barrier":
                self._model.set_barrier()
                self.connection.set_barrier()
            case "ping":
                self._model.rest.append("2")
                self.connection._ping()
            case "poll" if self.connection.carrier is None and (self._polling is None or self._polling.done()):
                self._polling = self._tasks.create_task(self._poll())
                await asyncio.sleep(0)  # a request that is answered begins to poll in the same breath
            case "turn":
                await _turn()
            case _:
                self._step_of_websocket(name, count)

    def _step_of_websocket(self, name: str, count: int) -> None:
        match name:
            case "probe" if self.is_only_polled():
                self._websocket = NarrowWebSocket(self._model)
                self._upgrade = Upgrade(self.connection, self._websocket, self.wheel)  # type: ignore[arg-type] # a fake
                self._websocket._taker = self._upgrade
            case "probe" if self._upgrade is not None and not self._upgrade._is_probed:
                self._upgrade.take("2probe")
            case "upgrade" if self._upgrade is not None and self._upgrade._is_probed:
                self._upgrade.take("5")
                self._upgrade = None
            case "lose" if self._upgrade is not None:
                self._upgrade.carrier_lost()
                self._upgrade = self._websocket = None
            case "read" if self._websocket is not None:
                self._websocket.make_room(count)

    async def end(self) -> None:
        """The client takes all there is."""
        await _turn()
        if self._upgrade is not None:
            self._upgrade.carrier_lost()
        if self._websocket is not None and self.connection.carrier is self._websocket:
            self._websocket.make_room(1_000)
        else:
            self.say("4the end")
            self._model.rest.append("4the end")
            await self.step("poll", 0)
            await _turn()
        assert self._polling is None or self._polling.done()
        assert self._model.beginning + self._model.urgent + self._model.rest == []

    async def _poll(self) -> None:
        for text in await self.polled():
            if text != packets.NOOP.body.decode():
                self._model.hear(text)


_STEPS: Final = [
    *("say", "say", "soon", "first", "barrier", "ping"),
    *("poll", "probe", "probe", "upgrade", "lose", "read", "turn"),
]


@given(st.lists(st.tuples(st.sampled_from(_STEPS), st.integers(1, 4)), max_size=60))
@example([("first", 1), ("first", 1), ("poll", 1)])
@example([("probe", 1), ("probe", 1), ("say", 1), ("upgrade", 1), ("first", 1), ("first", 1), ("read", 2)])
@example([("poll", 1), ("turn", 1), ("say", 1), ("probe", 1), ("probe", 1), ("upgrade", 1), ("turn", 1), ("read", 1)])
async def test_nothing_is_lost_doubled_or_reordered(steps: list[tuple[str, int]]) -> None:
    """Whatever is said, polled, probed, upgraded and read in whichever order: urgent things first, the rest in turn."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        play = Play(tasks)
        for name, count in steps:
            await play.step(name, count)
        await play.end()
