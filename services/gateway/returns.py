"""How fast sockets are closed whose clients come back elsewhere, and when each client is to be back. Pure.

Whatever clients do, they come back at the pace at which they are closed: the bound is kept by who closes. Where
there is no time to keep it so, those who do as they are told keep it: each is given a time of its own.
"""

import math
from typing import Final

STAGE_S: Final = 0.1
# Clients come back at random moments about their own: of what may sign in, a tenth is left for chance.
_OF_THE_BOUND: Final = 0.9
# As `socket.io-client` comes back by itself: by then an ingress has noticed that a gateway takes nobody.
SOONEST_S: Final = 0.5
LATEST_S: Final = 1.5
# Nobody is told to stay away for longer, whatever becomes of the bound.
_LONGEST_S: Final = 30.0
# Shares add up to whole sockets but for this much.
_ROUNDING: Final = 1e-6


class Bound:
    """How many sockets to close in each stage, so that no more than `sign_ins_per_s` follow. 0: any number."""

    def __init__(self, sign_ins_per_s: float) -> None:
        self._per_s = sign_ins_per_s * _OF_THE_BOUND if sign_ins_per_s else math.inf
        # What stages were due and was not a whole socket.
        self._quota = 0.0

    def takes_s(self, sockets: int) -> float:
        """How long it takes to close so many, at least."""
        return sockets / self._per_s

    def next(self, sockets: int, left_s: float = 0.0) -> int:
        """How many of these to close in this stage: even stages that end in `left_s`, if the bound allows it."""
        share = (sockets - self._quota) * min(1.0, STAGE_S / max(left_s, STAGE_S))
        self._quota += min(share, self._per_s * STAGE_S)
        count = min(sockets, int(self._quota + _ROUNDING))
        self._quota -= count
        return count

    def back_after_s(self, place: int, sockets: int, chance: float) -> float:
        """When the client of one of `sockets` that are closed at once is to be back: spread as the bound wants it.

        `place` counts from 0. `chance`, from 0 to 1, keeps those of one stage apart.
        """
        spread_s = min(self.takes_s(sockets), _LONGEST_S) if sockets else 0.0
        return SOONEST_S + (LATEST_S - SOONEST_S) * chance + spread_s * place / max(1, sockets)
