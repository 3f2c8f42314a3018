"""Socket.IO packets, encoded once for any number of sockets."""


class Packet:
    """One packet on its way out: the same object goes to every socket that it is for."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def event(name: str, body: bytes, ack: int | None = None) -> Packet:
    """An event; `body` is JSON. With `ack`, each client's acknowledgement comes back under it."""
    return Packet(f'2{"" if ack is None else ack}["{name}",{body.decode()}]')


def answer(ack: int, body: bytes) -> Packet:
    """The acknowledgement of a client's event; `body` is JSON."""
    return Packet(f"3{ack}[{body.decode()}]")
