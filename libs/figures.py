"""What each process says of itself, for `GET /status`: renewed every two seconds, forgotten soon after it is not.

Every process of the cluster reports; whoever shows the status reads. The fields are documented in
`docs/operations.md`. Counts are since the process started, rates over its last minute.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec
import structlog
from msgspec import Struct

from libs import keys, membership
from libs.broker import AWAY, Broker, Script

log = structlog.get_logger(__name__)

_EVERY_S: Final = 2.0
_TTL_MS: Final = 6000

_report: Final = Script("libs", "report.lua")
_encoder: Final = msgspec.json.Encoder()


class ProcessFigures(Struct, rename="camel", frozen=True, kw_only=True, tag_field="kind"):
    """What any process says. `id` is its instance: a new one with every start."""

    id: str
    pid: int = 0
    uptime_seconds: int = 0
    memory_bytes: int = 0
    # Lines at error level in its log.
    errors: int = 0


class GatewayFigures(ProcessFigures, frozen=True, kw_only=True, tag="gateway"):
    connections: int = 0
    authenticated: int = 0
    users: int = 0
    messages_in_per_second: float = 0.0
    messages_out_per_second: float = 0.0
    refusals: int = 0
    sign_ins_refused: int = 0
    # accepting, draining or drained
    state: str = "accepting"
    # Where other gateways pass on what is for its sockets.
    relay_address: str = ""


class RouterFigures(ProcessFigures, frozen=True, kw_only=True, tag="router"):
    partitions: int = 0
    messages_per_second: float = 0.0
    parked_frames: int = 0
    store_away: bool = False
    refusals: int = 0
    # Messages that nobody can account for, and those that are not saved yet.
    unaccounted: int = 0
    in_flight: int = 0


class PresenceFigures(ProcessFigures, frozen=True, kw_only=True, tag="presence"):
    """A copy of presence."""


Figures = GatewayFigures | RouterFigures | PresenceFigures
F = TypeVar("F", bound=ProcessFigures)

_decoder: Final = msgspec.json.Decoder(Figures)


class Reporter:
    """Reports what `figures` gives."""

    def __init__(self, broker: Broker, name: str, figures: Callable[[], Figures]) -> None:
        self._broker = broker
        self._name = name
        self._figures = figures

    async def run(self) -> None:
        """Report until cancelled. While the broker is away nothing is kept: it is told how things are, not were."""
        while True:
            try:
                await self.report()
            except AWAY as error:
                log.warning("figures: the broker is away", error=type(error).__name__)
            await asyncio.sleep(_EVERY_S)

    async def report(self) -> None:
        """Say it once. Raises `AWAY`."""
        call = _report.call(
            [keys.figures(), keys.figures_lapse()], self._name, _encoder.encode(self._figures()), _TTL_MS
        )
        await self._broker.script(call)

    async def forget(self) -> None:
        """This process leaves. Where the broker is away the figures lapse."""
        with suppress(*AWAY):
            await self._broker.batch([("HDEL", keys.figures(), self._name), ("ZREM", keys.figures_lapse(), self._name)])


async def reported(broker: Broker) -> list[Figures]:
    """What the processes that are alive said last, by name. Raises `AWAY`."""
    alive = sorted(await membership.live(broker, keys.figures_lapse(), _TTL_MS))
    if not alive:
        return []
    said = await broker.command("HMGET", keys.figures(), *alive)
    found: list[Figures] = []
    for packed in said:
        if packed is None:
            continue  # it left between the two questions
        try:
            found.append(_decoder.decode(packed))
        except msgspec.DecodeError:
            log.warning("figures that this version does not read")
    return found


def of_kind(figures: list[Figures], kind: type[F]) -> list[F]:
    """Those of one kind of process."""
    return [each for each in figures if isinstance(each, kind)]
