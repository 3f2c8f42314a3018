"""A gateway that stumbles over what it reads, and has the words in its exceptions, as libraries do."""

from typing import Any, Final

from services.gateway.requests import Requests

STUMBLE: Final = b"stumble"


def break_it() -> None:
    """Events that hold the word raise, with all that they say, one exception in the other."""
    event = Requests.event

    def stumble(self: Requests, socket: Any, ack: int | None, text: bytes) -> None:
        if STUMBLE not in text:
            event(self, socket, ack, text)
            return
        try:
            raise KeyError(text)
        except KeyError as error:
            raise ValueError(text.decode()) from error

    Requests.event = stumble  # type: ignore[method-assign] # that is what it is for
