"""Frames that would tell who wrote anonymously, sealed while they are on Redis.

A gateway seals what it asks of a router, a router what it answers, whole: the user, the socket, the client's own
ids, counts. Whoever reads a stream sees that something was said, and through which gateway. Both hold
CLUSTER_SECRET; a router without the right one can still refuse, because the socket is sealed on its own, and with
it the acknowledgement it waits for: clients number them, so that it would stand between two of its socket's others.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Final

import msgspec

from libs.identity.seals import Seals, Unopenable
from libs.wire import codec, names
from libs.wire.frames import (
    Confirm,
    Confirms,
    Downlink,
    Due,
    History,
    Inbound,
    Join,
    Origin,
    SealedFrame,
    SealedReply,
    Search,
    Send,
    Typing,
)

_MARK: Final = "~"  # in no socket's id
# As wide as any number: how long a seal is tells nothing of it.
_ACK_CHARS: Final = 20
# Frames are as long as the next multiple: beside the message, whose length is known, stand a name and an id.
_PADDED: Final = 256
_END: Final = b"\x80"


class Envelopes:
    """Seals and opens frames under the cluster's secret."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._inbound = Seals(keys, "an inbound frame")
        self._downlink = Seals(keys, "a downlink frame")
        self._sessions = Seals(keys, "a session")

    def closed(self, frame: Inbound) -> Inbound:
        """The frame as it may stand on a stream: sealed if it would tell who wrote anonymously."""
        if not tells_author(frame):
            return frame
        ack = "" if frame.origin.ack is None else frame.origin.ack
        waiting = f"{ack:>{_ACK_CHARS}}{frame.origin.session}"
        session = _MARK + urlsafe_b64encode(self._sessions.seal(waiting.encode())).decode()
        return SealedFrame(Origin(frame.origin.gateway, session), self._inbound.seal(_padded(codec.pack_frame(frame))))

    def opened(self, sealed: SealedFrame) -> Inbound:
        """The frame inside, whose origin says that the answer is sealed too. Raises `Unopenable`."""
        try:
            frame = codec.unpack_inbound_frame(_unpadded(self._inbound.open(sealed.body)))
        except codec.Unreadable as error:
            raise Unopenable("sealed by a newer version") from error
        return msgspec.structs.replace(frame, origin=msgspec.structs.replace(frame.origin, is_sealed=True))

    def seal_reply(self, frame: Downlink) -> SealedReply:
        """An answer, or what is told to an anonymous author."""
        return SealedReply(self._downlink.seal(_padded(codec.pack_frame(frame))))

    def open_reply(self, sealed: SealedReply) -> Downlink:
        """The frame inside. Raises `Unopenable`."""
        try:
            return codec.unpack_downlink_frame(_unpadded(self._downlink.open(sealed.body)))
        except codec.Unreadable as error:
            raise Unopenable("sealed by a newer version") from error

    def open_session(self, session: str) -> tuple[str, int | None]:
        """The socket that a refusal is for, whose frame the router could not open, and what it waits for."""
        if not session.startswith(_MARK):
            return session, None
        try:
            waiting = self._sessions.open(urlsafe_b64decode(session.removeprefix(_MARK))).decode()
            ack = waiting[:_ACK_CHARS].strip()
            return waiting[_ACK_CHARS:], int(ack) if ack else None
        except ValueError:
            return "", None


def _padded(body: bytes) -> bytes:
    whole = body + _END
    return whole.ljust(-(-len(whole) // _PADDED) * _PADDED, b"\0")


def _unpadded(body: bytes) -> bytes:
    whole = body.rstrip(b"\0")
    if not whole.endswith(_END):
        raise Unopenable("this is no frame")
    return whole[:-1]


def tells_author(frame: Inbound) -> bool:
    """Whether a frame, read on its stream, could tell who wrote something anonymous.

    Who asks about a conversation that somebody began under a pseudonym is one of its two; who confirms
    a message by its id may be confirming their own.
    """
    match frame:
        case Send(draft=draft):
            return draft.is_anonymous or names.is_pseudonymous(draft.conversation_id)
        case Confirm(message_id=str()):
            return True
        case Confirm() | Confirms() | History() | Join() | Typing() | Search():
            return frame.conversation_id is not None and names.is_pseudonymous(frame.conversation_id)
        case Due(cursors=dict(cursors)):
            return any(map(names.is_pseudonymous, cursors))
        case _:
            return False
