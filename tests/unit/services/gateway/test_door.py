"""Sign-ins that were made void: live sockets are closed, joining ones fall, newer ones stay."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from libs.clock import now_ms
from libs.identity import Claims, Tickets
from libs.wire.frames import SignedIn, SignedOut, SignIn
from services.gateway import door as module
from services.gateway.auth import Authenticator
from services.gateway.catchup import CatchUp
from services.gateway.door import Door
from services.gateway.metrics import GatewayMetrics
from services.gateway.questions import Questions
from services.gateway.sessions import Acks, Session, Sessions, State
from services.gateway.uplink import Uplink
from tests.support.waiting import until
from tests.unit.services.gateway.fakes import FAR_MS, FakeBroker, FakeSocket, FakeWheel, uplink


class Scene:
    """A door with asha's sessions behind it: live ones, and one that has not been welcomed yet."""

    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.uplink: Uplink = uplink(self.broker)
        self.sessions = Sessions()
        self.wheel = FakeWheel()
        nobody: Any = None
        self.door = Door(
            "g1",
            Authenticator(nobody, Tickets(["s" * 32], 1000)),
            nobody,
            Questions("g1"),
            self.sessions,
            nobody,
            self.uplink,
            CatchUp("g1", self.sessions, self.uplink, Acks(), self.wheel, page_timeout_s=10),
            nobody,
            GatewayMetrics(CollectorRegistry()),
            self.wheel,
            asyncio.Semaphore(1),
            sign_in_timeout_s=10,
            answer_timeout_s=10,
            token_warning_s=300,
            token_grace_s=300,
        )

    def session(self, name: str, issued_at_ms: int, state: State = State.LIVE) -> tuple[Session, FakeSocket]:
        socket = FakeSocket(name)
        session = Session(socket, Claims("asha", issued_at_ms, FAR_MS))
        session.state = state
        self.sessions.add(session)
        return session, socket


async def test_sockets_from_before_are_closed_and_those_from_after_stay() -> None:
    """So that a frame that is replayed closes nobody who signed in since."""
    scene = Scene()
    _, old = scene.session("old", 4999)
    _, new = scene.session("new", 5000)
    scene.door.sign_out(SignedOut("asha", "token_revoked", 5000))
    assert old.closed == "good"
    assert [(event, body["code"]) for event, body, _ in old.emitted] == [("auth_failed", "token_revoked")]
    assert (new.closed, new.emitted) == ("", [])


async def test_a_sign_in_that_is_not_welcomed_yet_falls_when_it_would_be() -> None:
    """Nothing is said to a socket that is not open; once it is, it hears why."""
    scene = Scene()
    session, socket = scene.session("joining", 4999, State.JOINING)
    scene.door.sign_out(SignedOut("asha", "token_revoked", 5000))
    assert (socket.closed, socket.emitted) == ("", [])
    scene.door.opened(socket)
    assert socket.closed == "good"
    assert [event for event, *_ in socket.emitted] == ["auth_failed"]
    assert session.state is State.JOINING


async def test_a_code_that_this_version_does_not_know_closes_as_well() -> None:
    """A router may be newer."""
    scene = Scene()
    _, socket = scene.session("old", 1)
    scene.door.sign_out(SignedOut("asha", "eaten_by_a_goat", 5000))
    assert socket.closed == "good"


async def test_after_a_revival_every_sign_in_is_asked_about_again() -> None:
    """A no closes the socket, a yes changes nothing, and where nobody could say it is asked once more."""
    scene = Scene()
    _, good = scene.session("good", 1)
    _, bad = scene.session("bad", 1)
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(scene.uplink.run())

        def asked() -> list[str]:
            return [frame.origin.session for _, frame in scene.broker.frames if isinstance(frame, SignIn)]

        scene.door.check_all()
        scene.wheel.turn(1.0)
        await until(lambda: asked() == ["good", "bad"], 5, "both to be asked about")
        scene.door.checked(SignedIn("bad", "asha", refusal="unavailable"))
        scene.wheel.turn(module._CHECK_AGAIN_S)
        await until(lambda: asked() == ["good", "bad", "bad"], 5, "another try")
        scene.door.checked(SignedIn("bad", "asha", refusal="token_revoked"))
        scene.door.checked(SignedIn("good", "asha"))
        scene.door.checked(SignedIn("gone", "asha", refusal="token_revoked"))
        writing.cancel()
    assert (good.closed, bad.closed) == ("", "good")


async def test_who_is_sent_back_is_told_when_with_a_ticket_that_signs_in_elsewhere() -> None:
    """A fresh one, for the same sign-in; who has not been let in yet is only closed."""
    scene = Scene()
    session, live = scene.session("live", 4000)
    _, joining = scene.session("joining", 4000, State.JOINING)
    stranger = FakeSocket("stranger")
    for socket in (live, joining, stranger):
        scene.door.send_back(socket, 0.75)
    ((event, told, _),) = live.emitted
    assert (event, told["afterMs"]) == ("reconnect", 750)
    assert Tickets(["s" * 32], 1000).read(told["resumeTicket"], now_ms()) == session.claims
    assert (joining.emitted, stranger.emitted) == ([], [])
    assert {socket.closed for socket in (live, joining, stranger)} == {"retry"}


async def test_whose_sign_in_ends_meanwhile_is_given_no_ticket() -> None:
    """It would be refused: they come back with a token."""
    scene = Scene()
    session, socket = scene.session("brief", 4000)
    session.claims = Claims("asha", 4000, now_ms() + 1000)
    scene.door.send_back(socket, 2.0)
    assert [body for _, body, _ in socket.emitted] == [{"afterMs": 2000}]


async def test_who_was_sent_back_is_expected_and_does_not_flicker() -> None:
    """Their seat is given up as one of somebody who comes back; of who leaves by themselves, as ever."""
    scene = Scene()
    given_up: list[tuple[str, bool]] = []

    class FakeHeartbeat:
        def unseat(self, user_id: str, *, comes_back: bool = False) -> None:
            given_up.append((user_id, comes_back))

    class FakeAlarms:
        def forget(self, session: Session) -> None:
            """Nothing is known of it."""

    scene.door._heartbeat, scene.door._alarms = FakeHeartbeat(), FakeAlarms()  # type: ignore[assignment]
    for name in ("sent", "left"):
        session = Session(FakeSocket(name), Claims(name, 1, FAR_MS))
        session.state = State.LIVE
        scene.sessions.add(session)
        if name == "sent":
            scene.door.send_back(session.socket, 0.5)
        scene.door.closed(session.socket)
    assert given_up == [("sent", True), ("left", False)]
