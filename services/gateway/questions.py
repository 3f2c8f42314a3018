"""What this gateway itself asks a router and waits for: sign-ins, operators' calls.

A question is known by the session it is about; operators' have one of their own, which no socket has.
"""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final

import msgspec
from msgspec import Struct

from libs.wire import payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import OPERATORS, Answer, Origin, SignedIn

Said = SignedIn | Answer


class _Outcome(Struct, frozen=True):
    ok: bool
    error: payloads.Error | None = None


_outcome: Final = msgspec.json.Decoder(_Outcome)


def body_of(said: Said) -> bytes:
    """The body of the answer to an operator's call. Raises the `Refusal` that it may be."""
    if not isinstance(said, Answer):
        raise Refusal(Code.INTERNAL)
    error = _outcome.decode(said.body).error
    if error is not None:
        raise Refusal(Code(error.code), error.message, error.retry_after_ms)
    return said.body


class Questions:
    """Questions that have no answer yet. Late or repeated answers find nobody waiting."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._waiting: dict[str, asyncio.Future[Said]] = {}
        self._numbers = count(1)

    def origin(self) -> Origin:
        """Where the answer to an operator's call goes."""
        return Origin(self._gateway, f"{OPERATORS}{next(self._numbers)}", 0)

    async def ask(self, session_id: str, publish: Callable[[], None]) -> Said:
        """The answer to what `publish` asks. Raises what it raises, and `Refusal` for who is gone."""
        answer: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self._waiting[session_id] = answer
        try:
            publish()
            return await answer
        finally:
            self._waiting.pop(session_id, None)

    def answered(self, said: Said) -> bool:
        """A router's word. False if nobody waits for it."""
        waiting = self._waiting.pop(said.session, None)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(said)
        return True

    def forget(self, session_id: str) -> None:
        """The socket is gone: nobody waits for the answer any more."""
        waiting = self._waiting.pop(session_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(Refusal(Code.UNAVAILABLE))
