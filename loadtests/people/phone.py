"""One phone on raw frames, with gevent: cheap enough that a thousand fit into a process.

It speaks Socket.IO 5 over Engine.IO 4 over a WebSocket, as far as a phone needs: it signs in, answers pings, confirms
what it gets, and comes back by itself when its socket goes, with its resume ticket. What it had sent and got no answer
to it sends again with the same `clientId`, as the contract asks for. wsproto does no I/O of its own, so a frame costs a
few microseconds and the socket is gevent's.

Two greenlets use it: its own connects and reads, that of the person writes.
"""

import random
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import gevent
import msgspec
from gevent import socket
from gevent.event import Event
from gevent.lock import RLock
from msgspec import Struct
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.utilities import RemoteProtocolError

from loadtests.people.ledger import Ledger
from loadtests.people.letters import Letter
from loadtests.people.village import kind

_READ_BYTES: Final = 65_536
# Far above what a slow link needs to connect and sign in.
_SIGN_IN_S: Final = 60.0
# The server pings every 25 s. What is silent for so long is dead, and the phone tries anew.
_SILENCE_S: Final = 90.0
# A client library's first pause before it comes back, and its spread.
_BACK_S: Final = (0.5, 2.0)
# On closing, send a reset: no close frame, no goodbye.
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class Notes(Protocol):
    """Where phones tell what took how long, and what failed with which code."""

    def note(self, what: str, name: str, seconds: float, size: int = 0, code: str | None = None) -> None:
        """One thing that was done."""


class _Error(Struct):
    code: str


class _Answer(Struct):
    ok: bool = True
    error: _Error | None = None


class _Message(Struct, rename="camel"):
    conversation_id: str
    client_id: str
    seq: int


class _Page(Struct, rename="camel"):
    messages: list[_Message]
    has_more: bool


class _Broadcast(Struct):
    title: str


class _SignedIn(Struct, rename="camel"):
    resume_ticket: str


class _Rejection(Struct):
    data: _Error


class _Asked(Struct):
    """What was sent and is not answered yet. A message, which has a key, is sent again until it is."""

    what: str
    name: str
    at: float
    arguments: str
    key: str | None = None


class _Gone(Exception):
    """The connection has ended; the message says how."""


class _Refused(Exception):
    """The server does not let this phone in; the message is its code."""


class _Dropped(Exception):
    """This phone has lost its network, as it was told to."""

    def __init__(self, away_s: float, silently: bool) -> None:
        super().__init__()
        self.away_s = away_s
        self.silently = silently


_answers: Final = msgspec.json.Decoder(tuple[_Answer, ...])
_message: Final = msgspec.json.Decoder(tuple[str, _Message])
_page: Final = msgspec.json.Decoder(tuple[str, _Page])
_broadcast: Final = msgspec.json.Decoder(tuple[str, _Broadcast])
_signed_in: Final = msgspec.json.Decoder(tuple[str, _SignedIn])
_failed: Final = msgspec.json.Decoder(tuple[str, _Error])
_rejection: Final = msgspec.json.Decoder(_Rejection)
_encode: Final = msgspec.json.Encoder().encode


class Phone:
    """The device of person `number`, who has this `token` and connects to any of `urls`.

    `run` tells the messages of this test from others; `clock` is the one that all workers share.
    """

    def __init__(
        self,
        number: int,
        token: str,
        urls: Sequence[str],
        run: str,
        *,
        ledger: Ledger,
        notes: Notes,
        clock: Callable[[], float],
    ) -> None:
        self.number = number
        self.unread: dict[str, int] = {}
        """Conversations with something unread, and the last seq that came."""
        self.sign_ins = 0
        """How often it has signed in: what lives as long as a socket is to be asked for again."""
        self._auth = {"token": token}
        self._token = token
        self._urls = urls
        self._run = run
        self._ledger = ledger
        self._notes = notes
        self._clock = clock
        self._luck = random.Random()
        self._in = Event()
        self._life: gevent.Greenlet[[], None] | None = None
        self._socket: socket.socket | None = None
        self._abandoned: socket.socket | None = None
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._writing = RLock()
        self._dialled_at = 0.0
        self._in_since = 0.0
        self._due_since: float | None = None
        self._written = 0
        self._asked: dict[int, _Asked] = {}
        self._asked_last = 0
        # What this device has: of each conversation the seqs, as bits; and broadcasts.
        self._have: dict[str, int] = {}
        self._heard: set[str] = set()

    @property
    def is_in(self) -> bool:
        """Whether it is signed in now."""
        return bool(self._in.is_set())

    def start(self) -> None:
        """Switch it on; returns once it is signed in, however often that takes."""
        self._life = gevent.spawn(self._live)
        self._in.wait()

    def stop(self) -> None:
        """Switch it off."""
        if self._life is not None:
            self._life.kill()
        self._hang_up()
        _close(self._abandoned)

    def drop(self, away_s: float, *, silently: bool) -> None:
        """Lose the network for `away_s`, without a close frame.

        The server hears a reset or, `silently`, nothing at all, as when a phone leaves coverage: the old socket stays
        open and unread until the next time.
        """
        if self.is_in and self._life is not None:
            self._life.kill(_Dropped(away_s, silently), block=False)

    def say(self, target: str, body: dict[str, Any]) -> None:
        """Send a message to a target of the village; `body` says what, and how the cluster calls the target."""
        key = self._next_key(target)
        self.ask("send_message", {"clientId": key, "type": "text", **body}, "send", kind(target), key)

    def warn(self, target: str, body: dict[str, Any]) -> None:
        """Send an emergency broadcast to a target of the village."""
        key = self._next_key(target)
        self.ask("emergency_broadcast", {"clientId": key, "title": key, **body}, "send", kind(target), key)

    def ask(self, event: str, body: dict[str, Any], what: str, name: str, key: str | None = None) -> None:
        """Send an event; how long its answer took is noted as `what`, `name`."""
        self._ask(_Asked(what, name, self._clock(), f"[{_text(event)},{_text(body)}]", key))

    def _next_key(self, target: str) -> str:
        self._written += 1
        self._ledger.unanswered += 1
        return Letter(self._run, target, self.number, self._written, self._clock()).key

    def _ask(self, asked: _Asked) -> None:
        self._asked_last += 1
        self._asked[self._asked_last] = asked
        self._send(f"42{self._asked_last}{asked.arguments}")

    def _live(self) -> None:
        while True:
            away_s = self._luck.uniform(*_BACK_S)
            try:
                self._read(self._dial())
            except _Dropped as dropped:
                away_s = dropped.away_s
                if dropped.silently:
                    _close(self._abandoned)
                    self._abandoned, self._socket = self._socket, None
            except _Refused as refused:
                self._note_sign_in(str(refused))
                self._auth = {"token": self._token}
            except (_Gone, RemoteProtocolError, OSError) as gone:
                code = str(gone) if isinstance(gone, _Gone) else type(gone).__name__
                self._notes.note("connection", "lost", 0.0, code=code)
            finally:
                self._hang_up()
            with suppress(_Dropped):  # it had just lost it anyway
                gevent.sleep(away_s)

    def _dial(self) -> socket.socket:
        self._dialled_at = self._clock()
        url = urlsplit(self._luck.choice(self._urls))
        connection = socket.create_connection((url.hostname, url.port), timeout=_SIGN_IN_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._ws = connection, WSConnection(ConnectionType.CLIENT)
        target = "/socket.io/?EIO=4&transport=websocket"
        connection.sendall(self._ws.send(ws.Request(host=url.netloc, target=target)))
        return connection

    def _read(self, connection: socket.socket) -> None:
        """Until the connection ends, which raises."""
        parts: list[str] = []
        while True:
            data = connection.recv(_READ_BYTES)
            if not data:
                raise _Gone("no goodbye")
            self._ws.receive_data(data)
            for event in self._ws.events():
                match event:
                    case ws.TextMessage():
                        parts.append(event.data)
                        if event.message_finished:
                            self._take("".join(parts))
                            parts.clear()
                    case ws.Ping():
                        connection.sendall(self._ws.send(event.response()))
                    case ws.CloseConnection():
                        raise _Gone(str(int(event.code)))
                    case ws.RejectConnection():
                        raise _Gone(f"HTTP {event.status_code}")

    def _take(self, text: str) -> None:
        match text[:2]:
            case "42":
                self._take_event(text, text.index("["))
            case "43":
                start = text.index("[")
                self._take_answer(int(text[2:start]), text[start:])
            case "44":
                raise _Refused(_rejection.decode(text[2:]).data.code)
            case "41":
                raise _Gone("disconnected")
            case "2":
                self._send("3")
            case _ if text[0] == "0":
                self._send(f"40{_text(self._auth)}")

    def _take_event(self, text: str, start: int) -> None:
        arguments = text[start:]
        match text[start + 2 : text.index('"', start + 2)]:
            case "new_message":
                self._arrive(_message.decode(arguments)[1], len(text))
            case "offline_messages":
                self._take_page(_page.decode(arguments)[1])
            case "emergency_broadcast":
                self._hear(_broadcast.decode(arguments)[1].title, len(text))
            case "auth_success":
                self._sign_in(_signed_in.decode(arguments)[1].resume_ticket)
            case "auth_failed":
                raise _Refused(_failed.decode(arguments)[1].code)
        if start > 2:  # it wants to be confirmed
            self._send(f"43{text[2:start]}[]")

    def _take_answer(self, number: int, arguments: str) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        answer = _answers.decode(arguments)[0]
        code = None if answer.error is None else answer.error.code
        self._notes.note(asked.what, asked.name, self._clock() - asked.at, len(arguments), code)
        if asked.key is not None:
            self._ledger.unanswered -= 1
            if answer.ok:
                self._ledger.sent(asked.key)

    def _sign_in(self, ticket: str) -> None:
        self._note_sign_in()
        self.sign_ins += 1
        self._auth = {"resumeTicket": ticket}
        if self._socket is not None:
            self._socket.settimeout(_SILENCE_S)
        self._in_since = self._due_since = self._clock()
        self._ledger.came(self.number)
        self._in.set()
        unanswered, self._asked = self._asked, {}
        for asked in unanswered.values():
            if asked.key is not None:
                self._ask(asked)

    def _note_sign_in(self, code: str | None = None) -> None:
        way = "with a ticket" if "resumeTicket" in self._auth else "with a token"
        self._notes.note("sign-in", way, self._clock() - self._dialled_at, code=code)

    def _take_page(self, page: _Page) -> None:
        for message in page.messages:
            self._arrive(message)
        if not page.has_more and self._due_since is not None:
            self._notes.note("sync", "caught up", self._clock() - self._due_since)
            self._due_since = None

    def _arrive(self, message: _Message, size: int = 0) -> None:
        have, bit = self._have.get(message.conversation_id, 0), 1 << message.seq
        self._have[message.conversation_id] = have | bit
        self.unread[message.conversation_id] = message.seq
        self._enter(message.client_id, size, known=bool(have & bit))

    def _hear(self, title: str, size: int) -> None:
        self._enter(title, size, known=title in self._heard)
        self._heard.add(title)

    def _enter(self, key: str, size: int, *, known: bool) -> None:
        letter = Letter.read(key)
        if letter is None or letter.run != self._run:
            return
        if known:
            self._ledger.again += 1
            return
        self._ledger.arrived(key, self.number)
        # What was sent while this phone was away took as long as it was away: that is another figure.
        how = "deliver" if letter.sent_at >= self._in_since else "late"
        self._notes.note(how, kind(letter.target), self._clock() - letter.sent_at, size)

    def _send(self, text: str) -> None:
        """Onto the socket, if there is one; that it has gone is noticed where it is read."""
        connection = self._socket
        try:
            with self._writing:
                if connection is not None and connection is self._socket:
                    connection.sendall(self._ws.send(ws.TextMessage(data=text)))
        except OSError:
            pass

    def _hang_up(self) -> None:
        self._in.clear()
        self._ledger.went(self.number)
        gone, self._socket = self._socket, None
        _close(gone)


def _text(value: object) -> str:
    return _encode(value).decode()


def _close(connection: socket.socket | None) -> None:
    """Without a word."""
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        connection.close()
