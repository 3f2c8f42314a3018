"""Socket.IO packets, encoded once for any number of sockets. https://socket.io/docs/v4/socket-io-protocol/"""

from typing import Final

from services.gateway.engine.packets import Packet

# The client is not to come back by itself.
DISCONNECT: Final = Packet(b"41")


def message(text: str) -> Packet:
    """A packet as the library has encoded it."""
    return Packet(b"4" + text.encode())


def unknown_namespace(namespace: str) -> Packet:
    """The refusal of a CONNECT to a namespace that does not exist."""
    return message(f'4{namespace},{{"message":"Invalid namespace"}}')


def event(name: str, body: bytes, ack: int | None = None) -> Packet:
    """An event; `body` is JSON. With `ack`, each client's acknowledgement comes back under it."""
    if ack is None:
        return Packet(b'42["%b",%b]' % (name.encode(), body))
    return Packet(b'42%d["%b",%b]' % (ack, name.encode(), body))


def answer(ack: int, body: bytes) -> Packet:
    """The acknowledgement of a client's event; `body` is JSON."""
    return Packet(b"43%d[%b]" % (ack, body))
