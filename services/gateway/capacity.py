"""With how many sockets a gateway is full: then it is not ready, so that who comes goes to another. It refuses nobody.

Full it stays until it has a little fewer, or it would be in and out of its load balancer with every socket.
"""

from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

# Of what it may have, so much must be left for it to have room again.
_ROOM_AGAIN: Final = 0.95
# Files that are no clients' sockets: the broker, neighbours, bridges' other halves, listeners, logs.
_OTHER_FILES: Final = 256


class Capacity:
    """Looks at the number of sockets whenever readiness is asked for."""

    def __init__(self, soft_max: int, sockets: Callable[[], int]) -> None:
        self._soft_max = soft_max
        self._sockets = sockets
        self._is_full = False

    @property
    def problem(self) -> str | None:
        """Why this gateway is not ready, if it is not."""
        if not self._soft_max:
            return None
        count = self._sockets()
        self._is_full = count >= (self._soft_max * _ROOM_AGAIN if self._is_full else self._soft_max)
        if not self._is_full:
            return None
        return f"{count} sockets are here, SOCKETS_SOFT_MAX={self._soft_max}: others are to take who comes"

    def most(self, file_limit: int) -> int:
        """As many sockets as it takes before it is full: by its setting, or by the files, if those are fewer."""
        files = max(0, file_limit - _OTHER_FILES)
        return min(self._soft_max, files) if self._soft_max else files

    def check_files(self, file_limit: int) -> None:
        """Say so if there are fewer files than it takes sockets."""
        if file_limit < self._soft_max + _OTHER_FILES:
            log.warning(
                "fewer files may be open than sockets are taken: raise the hard limit (ulimit -Hn), or lower the other",
                file_limit=file_limit,
                sockets_soft_max=self._soft_max,
            )
