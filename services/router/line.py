"""A pair of stages, and what stands before them: batches of some partitions, read by one loop, completed by another."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final, Protocol

from libs.deafness import Sight
from libs.streams.pace import Pace
from libs.wire.frames import Canary
from services.router.batch import Work

# A message to a group of 500 takes a router 30 ms: who has work in hand may take so long for it, and more; where each
# may ask a store that is away, and wait out its patience, much more.
_A_FRAME_S: Final = 0.1
_A_FRAME_WITHOUT_STORE_S: Final = 5.0


class Stages(Protocol):
    """What becomes of batches: `Delivery` for those of conversations, `Broadcasts` for those of broadcasts."""

    @property
    def parked(self) -> int: ...
    @property
    def owes(self) -> bool: ...
    @property
    def is_store_away(self) -> bool: ...
    async def decide(self, works: Sequence[Work]) -> None: ...
    async def complete(self, works: Sequence[Work], *, is_more: bool = False) -> None: ...
    async def unpark(self) -> None: ...
    async def settle(self) -> None: ...


class Line:
    """A pair of stages, and the partitions whose batches go through them."""

    def __init__(self, name: str, stages: Stages, partitions: Collection[int], linger_s: float) -> None:
        self.name = name
        self.stages = stages
        self.partitions = partitions
        self.pace = Pace(linger_s)
        self.decided: asyncio.Queue[list[Work]] = asyncio.Queue(maxsize=1)
        # Turns of the two loops, and the frames that each has in hand, canaries apart.
        self.reads = self.completions = 0
        self.deciding = self.completing = 0
        # How many servers had taken another's place when it was last looked.
        self.successions = 0

    @property
    def sights(self) -> dict[str, Sight]:
        """Whether its loops turn: both do so by themselves, however little there is to do."""
        a_frame_s = _A_FRAME_WITHOUT_STORE_S if self.stages.is_store_away else _A_FRAME_S
        allowed_s = a_frame_s * (self.deciding + self.completing) + _A_FRAME_S * self.stages.parked
        return {
            f"the reader of {self.name}": Sight(self.reads, allowed_s),
            f"what completes {self.name}": Sight(self.completions, allowed_s),
        }

    def nudge(self) -> None:
        """Have whoever completes look around, if there is nothing to complete."""
        if self.decided.empty():
            self.decided.put_nowait([])


def frames(works: Sequence[Work]) -> int:
    """How many frames there is something to do for."""
    return sum(not isinstance(frame, Canary) for work in works for frame in work.frames)
