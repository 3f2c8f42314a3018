"""`get_presence` and `update_presence`: many questions, one round trip.

Of people who are watched here the answer is known; others are looked up together, and of whom the broker
holds nothing (away for long) presence is asked by watching them for a moment.
"""

import asyncio
from collections.abc import Collection
from typing import Final, TypeVar

from msgspec import Struct

from libs.broker import Broker
from libs.clock import now_ms
from libs.directory import Standing, standing
from libs.streams.group_commit import Full, GroupCommit
from libs.wire import payloads
from libs.wire.codes import Code, Refusal
from services.gateway.watching import Watching

R = TypeVar("R")
A = TypeVar("A")

# Requests that wait for the broker; beyond it they are refused.
_WAITING_MAX: Final = 2000
# Of up to 500 ids each.
_QUESTIONS_A_TRIP: Final = 20
_PATIENCE_S: Final = 5.0
_COLD_PATIENCE_S: Final = 1.5
_RETRY_AFTER_MS: Final = 2000
_UNKNOWN: Final = Standing(standing.OFFLINE, 0, 0)


class _Question(Struct, frozen=True):
    users: tuple[str, ...]
    answer: asyncio.Future[dict[str, Standing]]


class _Choice(Struct, frozen=True):
    user: str
    status: str
    is_heard: asyncio.Future[bool]


class Standings:
    """Answers how people are seen, and passes on how they want to be."""

    def __init__(self, broker: Broker, watching: Watching, *, linger_s: float) -> None:
        self._broker = broker
        self._watching = watching
        self._questions: GroupCommit[_Question] = GroupCommit(
            self._look_up, limit=_WAITING_MAX, linger_s=linger_s, batch=_QUESTIONS_A_TRIP
        )
        self._choices: GroupCommit[_Choice] = GroupCommit(self._choose, limit=_WAITING_MAX, linger_s=linger_s)

    async def run(self) -> None:
        """Ask the broker until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._questions.run())
            tasks.create_task(self._choices.run())

    async def presence(self, users: Collection[str]) -> bytes:
        """The answer to `get_presence`. Raises `Refusal`."""
        found = self._watching.known(users)
        if rest := tuple(user for user in users if user not in found):
            asked: asyncio.Future[dict[str, Standing]] = asyncio.get_running_loop().create_future()
            answer: dict[str, Standing] = await _answered(self._questions, _Question(rest, asked), asked)
            found |= answer
        if cold := [user for user in users if user not in found]:
            found |= await self._watching.wait_known(cold, _COLD_PATIENCE_S)
        now = now_ms()
        seen = {user: found.get(user, _UNKNOWN) for user in users}
        return payloads.accepted_with(
            payloads.Presence({user: payloads.Seen(those.status, those.seen_ms(now)) for user, those in seen.items()})
        )

    async def choose(self, user: str, status: str) -> bytes:
        """The answer to `update_presence`, once it is written. Raises `Refusal`."""
        heard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not await _answered(self._choices, _Choice(user, status, heard), heard):
            # The broker was wiped; this gateway seats its users again within two seconds.
            raise Refusal(Code.UNAVAILABLE, retry_after_ms=_RETRY_AFTER_MS)
        return payloads.encode(payloads.Ok())

    async def _look_up(self, questions: list[_Question]) -> None:
        found = await standing.announced(self._broker, {user for question in questions for user in question.users})
        for question in questions:
            if not question.answer.done():
                question.answer.set_result({user: found[user] for user in question.users if user in found})

    async def _choose(self, choices: list[_Choice]) -> None:
        heard = await standing.choose(self._broker, {choice.user: choice.status for choice in choices})
        for choice in choices:
            if not choice.is_heard.done():
                choice.is_heard.set_result(choice.user in heard)


async def _answered(requests: GroupCommit[R], request: R, answer: asyncio.Future[A]) -> A:
    try:
        requests.put_nowait(request)
        async with asyncio.timeout(_PATIENCE_S):
            return await answer
    except (Full, TimeoutError) as error:
        raise Refusal(Code.UNAVAILABLE, retry_after_ms=_RETRY_AFTER_MS) from error
