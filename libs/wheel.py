"""A timer wheel: many time-outs, of which few ever end, at the price of one timer of the event loop.

Ten thousand sockets each wait for a ping, a pong and the end of a token. A timer of the loop's own for each costs
some 400 bytes, and a wake-up of the process for every one that ends; here all that end within one tick share a
set and a wake-up. A time-out never comes early, and late by at most a tick.
"""

import asyncio
import heapq
import math
from collections.abc import Callable
from typing import Final

_TICK_S: Final = 0.05


class Timeout:
    """Something to be done later, unless it is cancelled."""

    __slots__ = ("_slot", "_then")

    def __init__(self, slot: "set[Timeout]", then: Callable[[], object]) -> None:
        self._slot = slot
        self._then: Callable[[], object] | None = then

    def cancel(self) -> None:
        """Do nothing. Harmless to repeat, and when it is done."""
        self._then = None
        self._slot.discard(self)

    def run(self) -> None:
        """Do it; a time-out of the same tick may have cancelled this one meanwhile."""
        if self._then is not None:
            self._then()


class Wheel:
    """Time-outs of the running event loop."""

    def __init__(self, tick_s: float = _TICK_S) -> None:
        self._loop = asyncio.get_running_loop()
        self.tick_s = tick_s
        # By the number of the tick at which they end; and those numbers, the next first.
        self._slots: dict[int, set[Timeout]] = {}
        self._ticks: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def after(self, delay_s: float, then: Callable[[], object]) -> Timeout:
        """Call `then` once `delay_s` have passed."""
        tick = math.ceil((self._loop.time() + delay_s) / self.tick_s)
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = set()
            heapq.heappush(self._ticks, tick)
            self._arm(tick)
        timeout = Timeout(slot, then)
        slot.add(timeout)
        return timeout

    def _arm(self, tick: int) -> None:
        """Wake up for this tick, if not for an earlier one."""
        if self._timer is not None:
            if self._armed_for <= tick:
                return
            self._timer.cancel()
        self._armed_for = tick
        self._timer = self._loop.call_at(tick * self.tick_s, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._loop.time() / self.tick_s
        while self._ticks and self._ticks[0] <= now:
            slot = self._slots.pop(heapq.heappop(self._ticks))
            while slot:
                timeout = slot.pop()
                try:
                    timeout.run()
                except Exception as error:  # noqa: BLE001 - as the loop has it: told, and the others go on
                    self._loop.call_exception_handler({"message": "a time-out failed", "exception": error})
        if self._ticks:
            self._arm(self._ticks[0])
