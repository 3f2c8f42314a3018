"""One function for each reader of what comes from outside. It returns, or what it raises is a mistake of ours."""

import asyncio
import re
import tempfile
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libs import settings
from libs.identity import Envelopes, Tickets, Unopenable
from libs.identity.verifier import LocalVerifier
from libs.wire import codec, events, names
from libs.wire.codes import Refusal
from libs.wire.frames import Origin, SealedFrame, SealedReply, Section, Send, Sender
from services.gateway import operations, preface
from services.gateway.compression import NO_COMPRESSION
from services.gateway.engine.connection import Breach
from services.gateway.engine.server import Refused
from services.gateway.engine.websocket import Writes
from services.gateway.settings import GatewaySettings
from services.gateway.sockets import Socket
from services.presence.settings import PresenceSettings
from services.router.receipts import ReceiptBook, journal_field
from services.router.settings import RouterSettings
from services.router.store import Receipt
from tests.unit.services.gateway import echo
from tests.unit.services.gateway.echo import Echo
from tests.unit.services.gateway.fakes import FakeCarrier, FakeWheel, websocket

Target = Callable[[bytes], None]

_SEPARATOR: Final = b"\x1e"
_NOW_MS: Final = 1_000_000
# What asks for an answer: an event with an acknowledgement id, as text or with attachments.
_ASKING: Final = re.compile(r"4(?:2|5\d{1,4}-)(?:/,)?(\d{1,15})\[", re.ASCII)

# What a target may take: an empty cluster of objects, and copies of what came, decoded.
_MEMORY_BYTES: Final = 2_000_000
_MEMORY_TIMES: Final = 200

_runner: Final = asyncio.Runner()


class _Phone:
    """A socket that has joined, what it is told, and the frames that ask for an answer."""

    def __init__(self, tasks: asyncio.TaskGroup, carrier: Any) -> None:
        self.server = echo.server(Echo(), tasks, FakeWheel())
        self.socket: Socket = self.server.engine._open(self.server.engine._rules, "sid", "203.0.113.7")
        self.server.engine._begin(self.socket)
        self.carrier = carrier
        if carrier is not None:
            self.socket.carry(carrier)

    async def join(self) -> None:
        self.socket.take("40")
        await self.socket.settled()

    def check(self, asked: list[str], told: list[str]) -> None:
        """No frame without an answer, or the socket is closed."""
        if self.socket.closed or self.socket._is_leaving:
            return
        for text in asked:
            match = _ASKING.match(text)
            assert match is None or any(re.match(rf"43{int(match[1])}\[", one) for one in told), "not answered"


def engine_frames(data: bytes) -> None:
    """Engine.IO and Socket.IO packets of a WebSocket: text, or what follows a `b` as bytes."""

    async def feed() -> None:
        async with asyncio.TaskGroup() as tasks:
            carrier = FakeCarrier()
            phone = _Phone(tasks, carrier)
            await phone.join()
            asked = []
            for frame in data.split(_SEPARATOR):
                if phone.socket.closed:
                    break
                try:
                    if frame[:1] == b"b":
                        phone.socket.take_binary(frame[1:])
                    else:
                        asked.append(frame.decode(errors="replace"))
                        phone.socket.take(asked[-1])
                    await phone.socket.settled()
                except Breach:
                    phone.socket.break_off()
            phone.check(asked, carrier.texts)
            phone.socket.break_off()

    _runner.run(feed())


def polled_body(data: bytes) -> None:
    """A body that is posted by a phone that polls."""

    async def feed() -> None:
        async with asyncio.TaskGroup() as tasks:
            phone = _Phone(tasks, None)
            await phone.join()
            await phone.socket.poll()

            async def read() -> bytes:
                return data

            try:
                await phone.server.engine._post(Mock(read=read), phone.socket)
            except Refused:
                assert phone.socket.closed
            else:
                outbox = phone.socket._outbox
                told = [outbox.get_nowait().body.decode() for _ in range(len(outbox))] if outbox else []
                phone.check(data.decode().split("\x1e"), told)
            phone.socket.break_off()

    _runner.run(feed())


def websocket_bytes(data: bytes) -> None:
    """Whatever comes by a connection of TCP once it is a WebSocket; the first byte says whether it is compressed."""

    async def feed() -> None:
        async with asyncio.TaskGroup() as tasks:
            wheel = FakeWheel()
            window_bits = 15 if data[:1] > b"\x7f" else 0
            made, transport = websocket(wheel, Writes(wheel, 0.2), NO_COMPRESSION, window_bits=window_bits)
            phone = _Phone(tasks, None)
            phone.socket.carry(made)
            made.begin(phone.socket, b"")
            for at in range(1, len(data), 1000):
                if transport.closed:
                    break
                made.data_received(data[at : at + 1000])
                await phone.socket.settled()
            made.connection_lost(None)
            assert phone.socket.closed

    _runner.run(feed())


def prefaces(data: bytes) -> None:
    """What a proxy says of a connection: what is read of the whole is read of any part that holds it."""
    try:
        said = preface.read(data)
    except preface.Wrong:
        return
    if said is not None:
        assert preface.read(data[: said.length]) == said
        assert preface.read(data[: said.length - 1]) is None


def inbound_frames(data: bytes) -> None:
    """An entry of an inbound stream: what can be read is written as it was read."""
    frames, _ = codec.unpack_inbound(data)
    assert codec.unpack_inbound(codec.pack_inbound(frames)) == (frames, 0)


def downlink_frames(data: bytes) -> None:
    """An entry of a downlink stream."""
    try:
        sections: list[Section] = codec.unpack_downlink(data)
    except codec.Unreadable:
        sections, _ = codec.unpack_downlink_by_frame(data)
    assert codec.unpack_downlink(codec.pack_downlink(sections)) == sections


def client_events(data: bytes) -> None:
    """An event's JSON: read, or refused with a code; what it names is a name that keys can be made of."""
    try:
        name, argument = events.split(data)
        event = events.read(name, argument)
        if isinstance(event, events.SendMessage):
            draft = event.draft("asha")
            assert names.is_conversation(draft.conversation_id)
            sent = Send(Origin("g1", "s"), Sender("asha", "", ""), draft, _NOW_MS)
            assert codec.unpack_inbound_frame(codec.pack_frame(sent)) == sent
            names.message_key("asha", draft.client_id)
    except Refusal:
        return


def conversation_names(data: bytes) -> None:
    """Two ids and a third: no user is named so that a conversation, or a field of the journal, is another's."""
    one, other, third = [*data.decode(errors="surrogateescape").split("\x1e"), "", "", ""][:3]
    for text in (one, other, third):
        names.is_conversation(text)
        names.key_of(text)
        names.partition_of_message(text, 16)
        names.broadcast_of(text)
        with suppress(Refusal):
            events.target(text, "asha")
    if not (names.is_id(one) and names.is_id(other)):
        return
    direct = names.direct(one, other)
    assert direct == names.direct(other, one)
    assert sorted(names.direct_pair(direct) or ()) == sorted((one, other))
    assert names.group_of(direct) is None
    assert names.group_of(names.group(one)) == one
    assert names.direct_pair(names.group(one)) is None
    names.partition_of(direct, 16)
    names.partition_of_user(one, 16)
    book = ReceiptBook()
    book.restore({journal_field(direct, one).encode(): book.pack(Receipt(1))})
    assert book.receipt(direct, one) == Receipt(1)
    if names.is_id(third) and third != one:
        assert journal_field(direct, third) != journal_field(direct, one)
        assert names.direct(third, other) != direct or sorted((third, other)) == sorted((one, other))


def environment(data: bytes) -> None:
    """Any environment gives settings, or says which variable is wrong, and what to do."""
    text = data.decode(errors="surrogateescape")
    given = {line.partition("=")[0]: line.partition("=")[2] for line in text.split("\n")}
    for kind in (GatewaySettings, RouterSettings, PresenceSettings):
        fields = {field.name.upper() for field in msgspec.structs.fields(kind)}
        try:
            settings.load(kind, given)
        except settings.SettingsError as error:
            said = str(error)
        else:
            continue
        assert any(field in said for field in fields), said


def _made_verifier() -> LocalVerifier:
    key = rsa.generate_private_key(65537, 2048).public_key()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "public.pem"
        file.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return LocalVerifier(file, issuer="issuer", audience="audience")


_verifier: Final = _made_verifier()
_tickets: Final = Tickets(["s" * 32], 60_000)
_envelopes: Final = Envelopes(["k" * 32])


def tickets_and_envelopes(data: bytes) -> None:
    """Resume tickets, sealed frames, sealed sessions: nothing that was made up is opened."""
    text = data.decode(errors="replace")
    try:
        _tickets.read(text, _NOW_MS)
    except Refusal:
        pass
    else:
        raise AssertionError("a ticket was forged")
    for opening in (
        lambda: _envelopes.opened(SealedFrame(Origin("g1", "s"), data)),
        lambda: _envelopes.open_reply(SealedReply(data)),
    ):
        try:
            opening()
        except Unopenable:
            continue
        raise AssertionError("an envelope was forged")
    _envelopes.open_session(text)


def id_tokens(data: bytes) -> None:
    """ID tokens."""
    try:
        _runner.run(_verifier.verify(data.decode(errors="replace")))
    except Refusal:
        return
    raise AssertionError("a token was forged")


def operators_bodies(data: bytes) -> None:
    """Bodies of operators' calls."""
    for reading in (
        lambda: operations._asked_window(None, data),
        lambda: operations._asked_window(data.decode(errors="replace"), b""),
        lambda: events.read("emergency_broadcast", msgspec.Raw(data)),
    ):
        try:
            reading()
        except Refusal:
            continue


def watched(target: Target, data: bytes) -> None:
    """Run a target; it may take so much memory, and so much more for each byte that it is given."""
    if not tracemalloc.is_tracing():
        tracemalloc.start(1)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    target(data)
    _, peak = tracemalloc.get_traced_memory()
    allowed = _MEMORY_BYTES + _MEMORY_TIMES * len(data)
    assert peak - before <= allowed, f"{peak - before:,} bytes for {len(data):,}"


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (
        engine_frames,
        polled_body,
        websocket_bytes,
        prefaces,
        inbound_frames,
        downlink_frames,
        client_events,
        conversation_names,
        environment,
        tickets_and_envelopes,
        id_tokens,
        operators_bodies,
    )
}
