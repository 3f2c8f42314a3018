"""Frames that would tell who wrote anonymously say nothing while they are on Redis."""

from typing import Any

import msgspec
import pytest
from hypothesis import given

from libs.identity import Envelopes, Unopenable
from libs.identity.envelopes import tells_author
from libs.wire import codec, names
from libs.wire.events import Draft
from libs.wire.frames import (
    Confirm,
    Due,
    Emit,
    History,
    Inbound,
    Join,
    Origin,
    SealedFrame,
    SealedReply,
    Search,
    Send,
    Sender,
    SignIn,
    Typing,
)
from tests.unit.libs.wire.test_codec import INBOUND

ENVELOPES = Envelopes(["a-secret-of-the-cluster-thirty-two"])
OTHERS = Envelopes(["another-cluster's-secret-thirty-two"])
ORIGIN = Origin("g1", "ashas-socket", 7)
HIDDEN = names.direct(names.pseudonym(b"ten bytes!"), "ravi")
PLAIN = names.direct("asha", "ravi")


def draft(conversation_id: str = PLAIN, *, is_anonymous: bool = False) -> Draft:
    return Draft(conversation_id, "asha-1", "asha-1", "text", "Monday", is_anonymous=is_anonymous)


TELLING: dict[str, Inbound] = {
    "an anonymous message": Send(ORIGIN, Sender("asha", "Asha", "member"), draft(is_anonymous=True), 1),
    "a message under one's name where one has none": Send(ORIGIN, Sender("asha", "Asha", "member"), draft(HIDDEN), 1),
    "a confirmation by id": Confirm(ORIGIN, "asha", "", message_id="0" * 36),
    "a confirmation": Confirm(ORIGIN, "asha", HIDDEN, (1,)),
    "a look at the history": History(ORIGIN, "asha", HIDDEN, 10),
    "a join": Join(ORIGIN, "asha", HIDDEN, "join_conversation"),
    "typing": Typing(ORIGIN, "asha", "Asha", HIDDEN, True, "typing_start", 1),
    "a search": Search(ORIGIN, "asha", "Monday", 10, HIDDEN),
    "a device's cursors": Due(ORIGIN, "asha", cursors={PLAIN: 1, HIDDEN: 2}),
}
HARMLESS: dict[str, Inbound] = {
    "a message": Send(ORIGIN, Sender("asha", "Asha", "member"), draft(), 1),
    "a confirmation": Confirm(ORIGIN, "asha", PLAIN, (1,)),
    "a look at the history": History(ORIGIN, "asha", PLAIN, 10),
    "a search everywhere": Search(ORIGIN, "asha", "Monday", 10),
    "what is due": Due(ORIGIN, "asha"),
    "cursors": Due(ORIGIN, "asha", cursors={PLAIN: 1}),
    "a sign-in": SignIn(ORIGIN, "asha", None, 1),
}


@pytest.mark.parametrize("frame", TELLING.values(), ids=TELLING.keys())
def test_what_would_tell_the_author_is_sealed(frame: Inbound) -> None:
    """The user, the name, the socket, their own ids: none of it stands in the entry."""
    entry = codec.pack_inbound([ENVELOPES.closed(frame)])
    assert b"asha" not in entry.lower()
    ((sealed,), _) = codec.unpack_inbound(entry)
    assert isinstance(sealed, SealedFrame)
    opened = ENVELOPES.opened(sealed)
    assert opened.origin.is_sealed
    assert msgspec.structs.replace(opened, origin=ORIGIN) == frame


@pytest.mark.parametrize("frame", HARMLESS.values(), ids=HARMLESS.keys())
def test_everything_else_goes_as_it_is(frame: Inbound) -> None:
    """It costs nothing."""
    assert ENVELOPES.closed(frame) is frame


@given(INBOUND)
def test_a_sealed_frame_comes_out_as_it_went_in(frame: Any) -> None:
    """But for its origin, which asks for a sealed answer."""
    sealed = ENVELOPES.closed(frame)
    assert (sealed is not frame) == tells_author(frame)
    if isinstance(sealed, SealedFrame) and sealed is not frame:
        opened = ENVELOPES.opened(sealed)
        assert msgspec.structs.replace(opened, origin=frame.origin) == frame
        assert (sealed.origin.gateway, sealed.origin.ack) == (frame.origin.gateway, None)
        assert ENVELOPES.open_session(sealed.origin.session) == (frame.origin.session, frame.origin.ack)


def test_who_writes_tells_in_no_length_and_no_number() -> None:
    """Others' names are as long, and others' acknowledgements as high, as far as a reader of the stream can see."""
    seen = set()
    for sender, ack in (
        (Sender("asha", "Asha", "member"), 7),
        (Sender("venkata" * 4, "Venkata Lakshmi", "founder"), 1234),
    ):
        sealed = ENVELOPES.closed(Send(Origin("g1", "one-of-20-characters", ack), sender, draft(is_anonymous=True), 1))
        assert isinstance(sealed, SealedFrame)
        seen.add((sealed.origin.ack, len(sealed.origin.session), len(sealed.body)))
    assert len(seen) == 1
    assert {ack for ack, _, _ in seen} == {None}


def test_a_reply_comes_out_as_it_went_in() -> None:
    """At a gateway of this cluster only."""
    emit = Emit(("asha",), "message_delivery_status", b'{"clientId":"asha-1"}', skip_session="ashas-socket")
    sealed = ENVELOPES.seal_reply(emit)
    assert b"asha" not in sealed.body
    assert ENVELOPES.open_reply(sealed) == emit
    for bad in (OTHERS.seal_reply(emit), SealedReply(b""), SealedReply(sealed.body[:-1])):
        with pytest.raises(Unopenable):
            ENVELOPES.open_reply(bad)


def test_who_cannot_open_a_frame_can_still_answer_its_socket() -> None:
    """The gateway knows its own socket again; a forged one is nobody's."""
    sealed = ENVELOPES.closed(TELLING["an anonymous message"])
    assert isinstance(sealed, SealedFrame)
    with pytest.raises(Unopenable):
        OTHERS.opened(sealed)
    assert ENVELOPES.open_session(sealed.origin.session) == ("ashas-socket", 7)
    assert ENVELOPES.open_session("a-plain-one") == ("a-plain-one", None)
    for forged in ("~", "~!!", "~AAAA", OTHERS.closed(sealed).origin.session[:-4]):
        assert ENVELOPES.open_session(forged) == ("", None)


def test_a_frame_of_a_newer_version_is_not_opened() -> None:
    """Nor is one that holds no frame at all: it is answered, not lost."""
    body = ENVELOPES._inbound.seal(msgspec.msgpack.encode(["unheard-of", 1]))
    with pytest.raises(Unopenable):
        ENVELOPES.opened(SealedFrame(ORIGIN, body))
    with pytest.raises(Unopenable):
        ENVELOPES.open_reply(SealedReply(ENVELOPES._downlink.seal(b"\xc1")))
