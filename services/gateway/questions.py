"""What this gateway itself asks a router and waits for: sign-ins, operators' calls.

A question is known by the session it is about; operators' have one of their own, which no socket has.
"""

import asyncio
from collections.abc import Callable
from itertools import count

from libs.wire.codes import Code, Refusal
from libs.wire.frames import OPERATORS, Answer, Origin, SignedIn

Said = SignedIn | Answer


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

    def answered(self, said: Said) -> None:
        """A router's word."""
        waiting = self._waiting.pop(said.session, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(said)

    def forget(self, session_id: str) -> None:
        """The socket is gone: nobody waits for the answer any more."""
        waiting = self._waiting.pop(session_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(Refusal(Code.UNAVAILABLE))
