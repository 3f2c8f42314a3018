"""A phone answers what it is asked, all of a read in one write."""

import asyncio
from typing import Any

import pytest

from loadtests.phone import Person, Phone
from loadtests.websocket import CLOSE, PING, PONG, TEXT, masked, upgrade

_UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_aborted = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def abort(self) -> None:
        self.is_aborted = True


class Witness:
    """Keeps what a phone tells."""

    greeting = b'42["auth_success"'

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.answers: list[bytes] = []
        self.lost_with: list[int] = []

    def event(self, phone: Phone, payload: bytes, start: int, now: float) -> None:  # noqa: ARG002 - what a crowd is told
        self.events.append(payload[start:])

    def answer(self, payload: bytes, now: float) -> None:  # noqa: ARG002 - the same
        self.answers.append(payload)

    def lost(self, phone: Phone) -> None:
        self.lost_with.append(phone.code)


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def phone(witness: Witness, transport: Transport) -> Phone:
    """A phone whose connection was upgraded."""
    phone = Phone(witness, Person("asha", "http://127.0.0.1:3001", '{"token":"t"}'))
    phone.connection_made(transport)
    phone.data_received(_UPGRADED[:20])
    phone.data_received(_UPGRADED[20:])
    assert transport.writes == [upgrade("127.0.0.1:3001")]
    transport.writes.clear()
    return phone


def _text(payload: bytes) -> bytes:
    assert len(payload) < 126
    return bytes((TEXT, len(payload))) + payload


def test_a_ping_is_answered(phone: Phone, transport: Transport) -> None:
    """Engine.IO's ping, and WebSocket's own."""
    phone.data_received(_text(b"2"))
    phone.data_received(bytes((PING, 2)) + b"hi")
    assert transport.writes == [masked(b"3"), masked(b"hi", PONG)]


def test_events_that_ask_are_acknowledged_in_one_write(phone: Phone, transport: Transport, witness: Witness) -> None:
    """An acknowledgement for each event with an id, none for others, and all at once."""
    phone.data_received(_text(b'427["new_message",{}]') + _text(b'42["status",{}]') + _text(b'4218["new_message",1]'))
    assert transport.writes == [masked(b"437[]") + masked(b"4318[]")]
    assert witness.events == [b'"new_message",{}]', b'"status",{}]', b'"new_message",1]']


def test_it_signs_in_with_the_token_and_then_with_the_ticket(phone: Phone, transport: Transport) -> None:
    """What the server's hello is answered with; `auth_success` says that it is in."""
    phone.data_received(_text(b'0{"sid":"s"}'))
    was_in = phone.is_in
    phone.data_received(_text(b'42["auth_success",{}]'))
    assert (was_in, phone.is_in) == (False, True)
    phone.ticket = b"r"
    phone.data_received(_text(b'0{"sid":"s"}'))
    assert transport.writes == [masked(b'40{"token":"t"}'), masked(b'40{"resumeTicket":"r"}')]


def test_a_servers_close_is_answered_and_told(phone: Phone, transport: Transport, witness: Witness) -> None:
    """With its code; a phone that was not signed in tells nobody."""
    phone.data_received(_text(b'42["auth_success",{}]') + bytes((CLOSE, 2)) + (1012).to_bytes(2))
    phone.connection_lost(None)
    phone.connection_lost(None)
    assert transport.writes == [masked((1012).to_bytes(2), CLOSE)]
    assert witness.lost_with == [1012]


def test_a_refused_upgrade_is_the_reason_of_its_failure(witness: Witness, transport: Transport) -> None:
    """The status, and the connection is dropped."""
    phone = Phone(witness, Person("asha", "http://127.0.0.1:3001", "{}"))
    loop = asyncio.new_event_loop()
    phone.waiting = loop.create_future()
    phone.connection_made(transport)
    phone.data_received(b"HTTP/1.1 429 Too Many Requests\r\n\r\n")
    assert phone.waiting.result() == "429"
    assert transport.is_aborted
    loop.close()
