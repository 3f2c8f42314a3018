"""Frames into the inbound streams: many frames an entry, one entry a partition and flush."""

import time
from collections.abc import Callable

from libs import keys
from libs.broker import Broker, type_of_command
from libs.streams.group_commit import GroupCommit
from libs.wire import codec
from libs.wire.frames import Inbound

FIELD = b"f"
# Far under the broker's bound on a value; an entry is read whole.
_MAX_FRAMES_AN_ENTRY = 500


class Producer:
    """A bounded queue of frames on their way to the routers. Order within a partition is kept.

    What failed of a flush is repeated: the reader may see a frame twice, never out of order, and derived
    ids make a repeat harmless.
    """

    def __init__(
        self, broker: Broker, *, limit: int, linger_s: float, took: Callable[[float], None] = lambda _: None
    ) -> None:
        self._broker = broker
        # Is given the seconds of each write.
        self._took = took
        self._limit = limit
        self._commit: GroupCommit[tuple[int, Inbound]] = GroupCommit(
            self._flush, limit=limit, linger_s=linger_s, batch=4000
        )

    def __len__(self) -> int:
        return len(self._commit)

    @property
    def is_half_full(self) -> bool:
        """What is put now waits a while."""
        return 2 * len(self) >= self._limit

    @property
    def taken(self) -> int:
        """How many frames were taken so far."""
        return self._commit.put

    @property
    def written(self) -> int:
        """How many of them are on their streams."""
        return self._commit.written

    @property
    def tries(self) -> int:
        """How often it tried to write."""
        return self._commit.tries

    def publish_nowait(self, partition: int, frame: Inbound) -> None:
        """Take a frame for `partition`. Raises `Full`."""
        self._commit.put_nowait((partition, frame))

    def publish_first_nowait(self, partition: int, frame: Inbound) -> None:
        """Take a frame ahead of all that wait, even when they are too many. Raises `Full`."""
        self._commit.put_first_nowait((partition, frame))

    async def wait_written(self) -> None:
        """Wait until every frame taken so far is on its stream."""
        await self._commit.wait_written()

    async def run(self) -> None:
        """Flush until cancelled."""
        await self._commit.run()

    async def _flush(self, items: list[tuple[int, Inbound]]) -> None:
        by_partition: dict[int, list[Inbound]] = {}
        for partition, frame in items:
            by_partition.setdefault(partition, []).append(frame)
        commands = {partition: entries(partition, frames) for partition, frames in by_partition.items()}
        began = time.monotonic()
        results = iter(await self._broker.attempt([command for of_one in commands.values() for command in of_one]))
        self._took(time.monotonic() - began)
        failed: dict[int, Exception] = {}
        for partition, of_one in commands.items():
            for result in [next(results) for _ in of_one]:
                if isinstance(result, Exception):
                    failed[partition] = result
        if failed:
            # Where one node of a cluster is away, what went to the others is not to go again and again meanwhile.
            items[:] = [item for item in items if item[0] in failed]
            raise next(iter(failed.values()))


def entries(partition: int, frames: list[Inbound]) -> list[type_of_command]:
    """The XADDs that put `frames` on the inbound stream of `partition`."""
    return [
        ("XADD", keys.inbound(partition), "*", FIELD, codec.pack_inbound(frames[start : start + _MAX_FRAMES_AN_ENTRY]))
        for start in range(0, len(frames), _MAX_FRAMES_AN_ENTRY)
    ]
