"""What became of people, announced once to the gateways where somebody watches them.

`announce.lua` decides, in one step a shard: it looks at who came, went or chose, compares with what was
announced last, and keeps what is not published yet. What was published is settled after. A copy of
presence that dies in between leaves it to the next, which publishes it again; gateways know by the time of
an announcement what they have had. One copy announces a shard, by a short lease that only saves work.
"""

import asyncio
import secrets
import time
from collections.abc import Iterable
from typing import Any, Final

import structlog
from msgspec import Struct

from libs import keys
from libs.broker import AWAY, Broker, Call, Script, type_of_command
from libs.streams.producer import FIELD
from libs.wire import codec
from libs.wire.frames import UNFENCED, PresenceChange, PresenceChanges, Section
from services.presence.cold import Cold
from services.presence.metrics import PresenceMetrics
from services.presence.settling import settle

log = structlog.get_logger(__name__)

_TURN_S: Final = 0.1
_LEASE_MS: Final = 1000
# Users a shard and turn: 1.5 ms of the broker's time. With more to do the next turn follows at once.
_BATCH: Final = 200
# After a wipe gateways seat their users again with their next beat, 2 s later at most.
_SETTLED_AFTER_MS: Final = 2500
# Forgotten after a week: the store has them, and answers when somebody asks.
_KEPT_MS: Final = 7 * 24 * 3_600_000
_SWEEP_EVERY: Final = 10
_STALE_S: Final = 5.0
_SWEEP_FIELDS: Final = 500
# Anybody may ask for ids that nobody has, 500 at a time: what is not in the store is not kept for a week.
_NEVER_SEEN_KEPT_MS: Final = 60_000

_announce: Final = Script("services.presence", "announce.lua")
_sweep: Final = Script("services.presence", "sweep.lua")


class Announced(Struct, frozen=True):
    """What one shard said: who is cold, and what is to be published where."""

    cold: tuple[str, ...]
    changes: tuple[tuple[PresenceChange, tuple[str, ...]], ...]
    looked_at: int
    late_s: float


class Announcer:
    """Looks ten times a second."""

    def __init__(self, broker: Broker, cold: Cold, metrics: PresenceMetrics) -> None:
        self._broker = broker
        self._cold = cold
        self._metrics = metrics
        self._name = secrets.token_hex(8)
        self._turns = 0
        self._turned_at = 0.0
        self._cursors: dict[int, bytes] = {}
        self.shards: frozenset[int] = frozenset()

    @property
    def problem(self) -> str | None:
        """Why presence is not ready, if it is not."""
        return None if time.monotonic() - self._turned_at < _STALE_S else "changes are not announced"

    async def run(self) -> None:
        """Announce until cancelled."""
        while True:
            try:
                is_more = await self.turn()
            except AWAY as error:
                is_more = False
                log.warning("announcer: the broker is away", error=type(error).__name__)
            if not is_more:
                await asyncio.sleep(_TURN_S)

    async def turn(self) -> bool:
        """Announce what there is, or a part of it: then True. Raises `AWAY`."""
        said = await self.announce()
        await self._publish(said)
        for announced in said.values():
            self._cold.ask(announced.cold)
        self._turns += 1
        self._turned_at = time.monotonic()
        if self._turns % _SWEEP_EVERY == 0:
            await self._sweep()
        return any(announced.looked_at == _BATCH for announced in said.values())

    async def announce(self) -> dict[int, Announced]:
        """Have every shard decide; the shards that are ours to announce, and what they said."""
        shards = range(keys.DIRECTORY_SHARDS)
        replies = await self._broker.scripts([self._call(shard) for shard in shards])
        said = {shard: _announced(reply) for shard, reply in zip(shards, replies, strict=True) if reply is not None}
        self.shards = frozenset(said)
        self._metrics.shards.set(len(said))
        self._metrics.late_s.set(max((announced.late_s for announced in said.values()), default=0.0))
        return said

    def _call(self, shard: int) -> Call:
        where = [
            keys.announcer(shard),
            keys.changes(shard),
            keys.seats(shard),
            keys.chosen(shard),
            keys.left(shard),
            keys.presence(shard),
            keys.watchers(shard),
            keys.pending(shard),
            keys.counts(shard),
            keys.unsaved(shard),
        ]
        found = (part for item in self._cold.take(shard).items() for part in item)
        return _announce.call(where, self._name, _LEASE_MS, _BATCH, _SETTLED_AFTER_MS, *found)

    async def _publish(self, said: dict[int, Announced]) -> None:
        """To each gateway that watches somebody, one entry; then it is settled."""
        changes = [change for announced in said.values() for change in announced.changes]
        if not changes:
            return
        results = await self._broker.batch(_entries(changes))
        for result in results:
            if isinstance(result, Exception):
                raise result
        self._metrics.published_frames.inc(sum(result is not None for result in results))
        await self._broker.scripts(
            [
                settle(keys.pending(shard), ((change.user_id, change.at_ms) for change, _ in announced.changes))
                for shard, announced in said.items()
                if announced.changes
            ]
        )
        for change, gateways in changes:
            self._metrics.announced.labels(change.status).inc(len(gateways))

    async def _sweep(self) -> None:
        """Forget a few who have been away for long."""
        shards = sorted(self.shards)
        replies = await self._broker.scripts(
            [
                _sweep.call(
                    [keys.presence(shard), keys.watchers(shard), keys.unsaved(shard)],
                    self._cursors.get(shard, b"0"),
                    _SWEEP_FIELDS,
                    _KEPT_MS,
                    _NEVER_SEEN_KEPT_MS,
                )
                for shard in shards
            ]
        )
        for shard, (cursor, forgotten) in zip(shards, replies, strict=True):
            self._cursors[shard] = cursor
            self._metrics.forgotten.inc(forgotten)


def _entries(changes: Iterable[tuple[PresenceChange, tuple[str, ...]]]) -> list[type_of_command]:
    by_gateway: dict[str, list[PresenceChange]] = {}
    for change, gateways in changes:
        for gateway in gateways:
            by_gateway.setdefault(gateway, []).append(change)
    return [
        (
            "XADD",
            keys.downlink(gateway),
            "NOMKSTREAM",
            "*",
            FIELD,
            codec.pack_downlink([Section(UNFENCED, 0, (PresenceChanges(tuple(those)),))]),
        )
        for gateway, those in by_gateway.items()
    ]


def _announced(reply: list[Any]) -> Announced:
    cold, rows, looked_at, late_ms = reply
    return Announced(
        cold=tuple(user.decode() for user in cold),
        changes=tuple(
            (
                PresenceChange(user.decode(), status.decode(), int(seen_ms), int(at_ms)),
                tuple(gateways.decode().split()),
            )
            for user, status, at_ms, seen_ms, gateways in zip(*(rows[n::5] for n in range(5)), strict=True)
        ),
        looked_at=looked_at,
        late_s=int(late_ms) / 1000,
    )
