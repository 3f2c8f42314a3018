"""How long to wait before a process that died is started again."""

FIRST_S = 0.5
LONGEST_S = 15.0
# A process that lived this long did start well: what kills it now is something new.
FORGIVEN_AFTER_S = 30.0


class Backoff:
    """Doubles from 0.5 s to 15 s, and begins anew once a process has lived for 30 s."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def delay_s(self, lived_s: float) -> float:
        """The wait after a life of `lived_s`."""
        if lived_s >= FORGIVEN_AFTER_S:
            self._next_s = FIRST_S
        delay_s = self._next_s
        self._next_s = min(2 * delay_s, LONGEST_S)
        return delay_s
