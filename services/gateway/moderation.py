"""A busy gateway looks at its sockets at a beat, as a network card moderates its interrupts.

To be woken costs a process several times what a frame does: the kernel switches to it, the caches are cold, and the
loop polls, reads and writes for one frame alone. So under load the loop naps between its turns, and each turn finds
what came meanwhile: frames to read, entries of the downlink, one write for each socket. When the load grows the nap
shrinks to nothing; when there is little to do there is none, and nobody waits.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

# Turns of the loop after a nap in which what follows from what was read is done: a task that waits for a reply, and
# those that wait for the task.
_TURNS: Final = 4
# The share of a core from which on it naps, and below which it stops to. Naps save most of the CPU.
_BUSY: Final = 0.08
_IDLE: Final = 0.02
# How often an idle gateway looks whether it is busy, and over how long both are judged.
_LOOK_S: Final = 0.1
_JUDGE_S: Final = 0.5


class Moderation:
    """Naps of at most `beat_s` (0: never), but not while requests, which `arrivals` counts, come one after another."""

    def __init__(self, beat_s: float, arrivals: Callable[[], int] = lambda: 0) -> None:
        self._beat_s = beat_s
        # How many have come so far.
        self._arrivals = arrivals
        self._arrived = 0
        self._loop = asyncio.get_running_loop()
        self._is_busy = False
        self._turns = 0
        self._woke_at = self._judged_at = time.monotonic()
        self._cpu_s = time.thread_time()

    async def run(self) -> None:
        """Moderate until cancelled."""
        if not self._beat_s:
            return
        try:
            self._look()
            await asyncio.Event().wait()
        finally:
            self._beat_s = 0.0

    def _look(self) -> None:
        """Between naps, or now and then."""
        if not self._beat_s:
            return
        now = time.monotonic()
        if now - self._judged_at >= (_JUDGE_S if self._is_busy else _LOOK_S):
            self._judge(now)
        if self._is_busy:
            self._turns = 0
            self._loop.call_soon(self._turn)
        else:
            self._loop.call_later(_LOOK_S, self._look)

    def _judge(self, now: float) -> None:
        cpu_s = time.thread_time()
        share = (cpu_s - self._cpu_s) / (now - self._judged_at)
        self._is_busy = share > (_IDLE if self._is_busy else _BUSY)
        self._cpu_s, self._judged_at = cpu_s, now

    def _turn(self) -> None:
        """Behind what is ready to run: once nothing more follows, nap."""
        self._turns += 1
        if (arrived := self._arrivals()) != self._arrived:
            # The loop takes one new connection a turn: with naps between, a storm of them would wait for ever.
            self._arrived, self._turns = arrived, 0
        if self._turns < _TURNS:
            self._loop.call_soon(self._turn)
            return
        left_s = self._woke_at + self._beat_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
        self._woke_at = time.monotonic()
        self._look()
