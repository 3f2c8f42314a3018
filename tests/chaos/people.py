"""People: phones that come and go, and who writes to whom.

A phone loses its line now and then, is switched off for a while, and comes back at any gateway, with its resume
ticket or its token. What a person wrote is sent again with the same `clientId` until it is answered, as the app does.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import socketio

from libs.wire import names
from tests.support.clients import Client, JsClients, NoAnswer, PythonClient
from tests.support.cluster import LiveCluster
from tests.support.history import History
from tests.support.waiting import until

PEOPLE: Final = ("asha", "bala", "chitra", "devi", "esha", "farid", "gita", "hari")
# Whose phones run the other library.
_PYTHON: Final = frozenset({"devi1", "hari1"})
_PHONES: Final = tuple(f"{person}1" for person in PEOPLE)
# Of people who have a second device: what one confirmed is not due to the other, so they are only where nobody goes.
_TABLETS: Final = ("asha2", "bala2", "chitra2", "esha2", "farid2", "gita2")
GROUPS: Final[dict[str, tuple[str, ...]]] = {"sangham": PEOPLE, "panchayat": PEOPLE[:5]}
_WRITERS: Final = {"sangham": ("asha", "devi", "gita"), "panchayat": ("bala", "chitra")}
_TRY_S: Final = 3.0
_AGAIN_S: Final = 0.3
# A lane that waits for so many answers writes nothing new.
_PENDING_MAX: Final = 20
_MOOD_S: Final = (4.0, 16.0)
_AWAY_S: Final = (1.0, 8.0)
_LOOK_S: Final = 0.2
_COME_S: Final = 60.0
_COME_BACK_S: Final = 1.0
_TURNS: Final = frozenset({"connect", "connect_error", "disconnect", "auth_success", "auth_failed"})
_OPTIONS: Final = {"reconnectionDelay": 300, "reconnectionDelayMax": 1500, "timeout": 5000}
_PY_OPTIONS: Final = {"reconnection_delay": 0.3, "reconnection_delay_max": 1.5}


@dataclass
class Letter:
    """One message of somebody: when it was written, since when its phone is switched on, when it had its answer."""

    lane: str
    client_id: str
    written_ms: int
    since_ms: int
    answered_ms: int | None = None
    refusal: str | None = None


class Phone:
    """One device of one person."""

    def __init__(self, device: str, cluster: LiveCluster, history: History, js: JsClients, seed: int, *, is_calm: bool):
        self.device = device
        self.person = device[:-1]
        self.client: Client | None = None
        self.turned_away: list[str] = []
        self._cluster = cluster
        self._history = history
        self._js = js
        self._luck = random.Random(f"{seed} {device}")
        self._is_calm = is_calm
        self._lives = 0
        self.lives: list[Client] = []
        self._ticket: str | None = None
        self._seen = 0

    async def come(self) -> None:
        """Connect at some gateway; the others follow if it is not there."""
        self._lives += 1
        name = f"{self.device}-{self._lives}"
        urls = self._luck.sample(self._cluster.urls, len(self._cluster.urls))
        self._seen = 0
        if self.device in _PYTHON:
            await self._come_python(name, urls)
        else:
            self.client = await self._js.open(
                name, urls, self._auth(), device=self.device, user=self.person, options=dict(_OPTIONS), wait=False
            )
        if self.client is not None:
            self.lives.append(self.client)

    async def go(self) -> None:
        """Be switched off."""
        client, self.client = self.client, None
        if client is not None:
            with suppress(AssertionError):
                await client.close()

    async def live(self, stopping: asyncio.Event) -> None:
        """Come and go until told to stop; then stay."""
        next_mood = time.monotonic() + self._luck.uniform(*_MOOD_S)
        while not stopping.is_set():
            await self.mind()
            if not self._is_calm and self.is_here and time.monotonic() > next_mood:
                await self._have_a_mood()
                next_mood = time.monotonic() + self._luck.uniform(*_MOOD_S)
            await asyncio.sleep(_LOOK_S)

    async def mind(self) -> None:
        """What the app does when the library has given up: it signs in anew."""
        client = self.client
        if client is None:
            await self.come()
            return
        for event in client.events(since=self._seen):
            self._seen += 1
            match event.name, event.data:
                case "auth_success", {"resumeTicket": str(ticket)}:
                    self._ticket = ticket
                case "connect_error", {"final": True, "data": refusal}:
                    await self._refused(client, refusal)
                case "auth_failed", refusal:
                    self._note(refusal)
                case "disconnect", {"final": True}:
                    await self._again(client)

    @property
    def is_here(self) -> bool:
        """Whether it is signed in, on the connection that it has."""
        if self.client is None or not self.client.connected:
            return False
        for event in reversed(self.client.events()):
            if event.name in ("auth_success", "disconnect", "connect_error"):
                return event.name == "auth_success"
        return False

    async def _come_python(self, name: str, urls: Sequence[str]) -> None:
        auth = {"token": self._cluster.token(self.person)}
        with suppress(socketio.exceptions.ConnectionError, TimeoutError):
            self.client = await PythonClient.open(
                self._history,
                name,
                urls,
                auth,
                device=self.device,
                user=self.person,
                timeout_s=5.0,
                options=dict(_PY_OPTIONS),
                transports=["websocket"],
            )

    async def _have_a_mood(self) -> None:
        client, mood = self.client, self._luck.random()
        if client is None:
            return
        if mood < 0.5:
            if client.connected:
                with suppress(AssertionError, AttributeError):  # it lost its line by itself a moment ago
                    await client.drop()
            return
        await self.go()
        await asyncio.sleep(self._luck.uniform(*_AWAY_S) if mood < 0.8 else _LOOK_S)
        await self.come()

    async def _refused(self, client: Client, refusal: Any) -> None:
        self._note(refusal)
        await self._again(client)

    def _note(self, refusal: Any) -> None:
        had_ticket = self._ticket is not None
        self._ticket = None
        match refusal:
            case {"code": str(code), "retryable": False} if not had_ticket:
                self.turned_away.append(f"{self.person}: {code}")

    async def _again(self, client: Client) -> None:
        await asyncio.sleep(_COME_BACK_S)
        await client.set_auth(self._auth())
        await client.connect_again()

    def _auth(self) -> dict[str, Any]:
        if self._ticket is not None and self._luck.random() < 0.7:
            return {"resumeTicket": self._ticket}
        self._ticket = None
        return {"token": self._cluster.token(self.person)}


@dataclass
class Lane:
    """Who writes to whom, and what became of it."""

    name: str
    phone: Phone
    to: Mapping[str, str]
    letters: list[Letter] = field(default_factory=list)
    pending: int = 0


class People:
    """Everyone, while something is broken around them."""

    def __init__(self, phones: Mapping[str, Phone], every_s: float) -> None:
        self.phones = phones
        self._every_s = every_s
        ring = list(zip(PEOPLE, (*PEOPLE[1:], PEOPLE[0]), strict=True))
        self.lanes = [Lane(f"{a}→{b}", phones[f"{a}1"], {"recipientId": b}) for a, b in ring]
        self.lanes += [
            Lane(f"{writer}→{group}", phones[f"{writer}1"], {"groupId": group})
            for group, writers in _WRITERS.items()
            for writer in writers
        ]
        self._over = asyncio.Event()
        self._quiet = asyncio.Event()

    @property
    def letters(self) -> list[Letter]:
        """All that was written."""
        return [letter for lane in self.lanes for letter in lane.letters]

    def story(self, began_ms: int, slow_s: float = 8.0) -> list[str]:
        """What became of connections and of slow letters, by the seconds since the run began."""
        told = [
            (event.at_ms, f"{life.name} {event.name} {str(event.data)[:150]}")
            for phone in self.phones.values()
            for life in phone.lives
            for event in life.events()
            if event.name in _TURNS
        ]
        told += [
            (one.written_ms, f"{one.client_id} written, answered {_since(began_ms, one.answered_ms)}")
            for one in self.letters
            if one.answered_ms is None or one.answered_ms - one.written_ms > slow_s * 1000
        ]
        return [f"{(at_ms - began_ms) / 1000:8.2f} {what}" for at_ms, what in sorted(told)]

    @property
    def turned_away(self) -> list[str]:
        """Who was told for good that a good token is none."""
        return [refusal for phone in self.phones.values() for refusal in phone.turned_away]

    async def come(self) -> None:
        """Everyone signs in for the first time. Raises AssertionError."""
        async with asyncio.TaskGroup() as coming:
            for phone in self.phones.values():
                coming.create_task(phone.come())
        await until(self._are_here, _COME_S, "everyone to be signed in")

    def _are_here(self) -> bool:
        return all(phone.is_here for phone in self.phones.values())

    async def run(self) -> None:
        """Live and write until `stop`; return when every letter has its answer, or `be_quiet` was called."""
        async with asyncio.TaskGroup() as lives:
            for phone in self.phones.values():
                lives.create_task(phone.live(self._quiet))
            async with asyncio.TaskGroup() as tasks:
                for lane in self.lanes:
                    tasks.create_task(self._write(lane, tasks))

    def stop(self) -> None:
        """Write nothing new, and stay where you are."""
        self._over.set()

    def be_quiet(self) -> None:
        """Come and go no more."""
        self._quiet.set()

    async def _write(self, lane: Lane, tasks: asyncio.TaskGroup) -> None:
        while not self._over.is_set():
            if lane.phone.client is not None and lane.pending < _PENDING_MAX:
                letter = Letter(lane.name, f"{lane.name}-{len(lane.letters)}", _now_ms(), _now_ms())
                lane.letters.append(letter)
                tasks.create_task(self._send(lane, letter))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._over.wait()

    async def _send(self, lane: Lane, letter: Letter) -> None:
        payload = {"clientId": letter.client_id, "content": f"సందేశం {letter.client_id}", **lane.to}
        lane.pending += 1
        while not self._quiet.is_set():
            client = lane.phone.client
            if client is None or not client.connected:
                if client is None:
                    letter.since_ms = _now_ms()
                await asyncio.sleep(_AGAIN_S)
                continue
            try:
                answer = await client.emit("send_message", payload, _TRY_S)
            except NoAnswer:
                await asyncio.sleep(_AGAIN_S)  # where it could not even be handed over, others take their turn
                continue
            match answer:
                case {"ok": True}:
                    letter.answered_ms = _now_ms()
                    break
                case {"ok": False, "error": {"retryable": True}}:
                    await asyncio.sleep(_AGAIN_S)
                case _:
                    letter.answered_ms, letter.refusal = _now_ms(), str(answer)
                    break
        lane.pending -= 1


def expected(*, are_calm: bool = False) -> dict[str, tuple[str, ...]]:
    """Which devices should see what is said in each conversation."""
    pairs = zip(PEOPLE, (*PEOPLE[1:], PEOPLE[0]), strict=True)
    found = {names.direct(a, b): _devices_of((a, b), are_calm=are_calm) for a, b in pairs}
    found |= {names.group(group): _devices_of(members, are_calm=are_calm) for group, members in GROUPS.items()}
    return found


def _devices_of(people: Sequence[str], *, are_calm: bool) -> tuple[str, ...]:
    return tuple(device for device in (*_PHONES, *(_TABLETS if are_calm else ())) if device[:-1] in people)


@asynccontextmanager
async def people(
    cluster: LiveCluster, history: History, seed: int, every_s: float, *, are_calm: bool = False
) -> AsyncIterator[People]:
    """Everyone has an account and phones that are switched off; who is calm never switches one off again."""
    await cluster.people(PEOPLE, GROUPS)
    async with JsClients(history) as js:
        phones = {
            device: Phone(device, cluster, history, js, seed, is_calm=are_calm)
            for device in _devices_of(PEOPLE, are_calm=are_calm)
        }
        async with AsyncExitStack() as leaving:
            for phone in phones.values():
                leaving.push_async_callback(phone.go)
            yield People(phones, every_s)


def _since(began_ms: int, at_ms: int | None) -> str:
    return "never" if at_ms is None else f"at {(at_ms - began_ms) / 1000:.2f}"


def _now_ms() -> int:
    return int(time.time() * 1000)
