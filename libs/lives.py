"""Whether the server that answers is the one that answered before.

Replication is asynchronous, and a disk is written behind: a server that is promoted, or started again, may not know
the last of what the one before it took. Nothing else would tell: its keys look well, and its clock may be behind, so
that new entries of a stream have smaller ids than some that were read. So each new connection asks who is there.
"""

from collections.abc import Mapping
from typing import Any, Final

from redis import exceptions

# What each new connection asks.
QUESTION: Final = ("INFO", "server", "replication")
# A replica that was promoted names the history that it continues; none, if it was not.
_NONE: Final = "0" * 40


class Lives:
    """The servers that were met, by address; under Sentinel all have one address."""

    def __init__(self) -> None:
        # How often another server, or another life of the same, stood where one had been.
        self.changes = 0
        self._met: dict[Any, tuple[str, str]] = {}

    def meet(self, address: object, said: object) -> None:
        """A connection to `address` was made, and this is what the server says of itself.

        Raises redis-py's `ConnectionError` for a replica: it would refuse what is written, and may be behind.
        """
        if isinstance(said, exceptions.ConnectionError):
            raise said  # it is loading
        info = _fields(said)
        if info.get("role") == "slave":
            raise exceptions.ConnectionError("the server is a replica")
        life = (info.get("run_id", ""), info.get("master_replid", ""))
        before = self._met.get(address)
        continued = info.get("master_replid2", _NONE)
        # Slots that move to another node take along what they hold; those of a dead primary do not.
        is_heir = before is None and continued != _NONE and any(continued == replid for _, replid in self._met.values())
        if is_heir or (before is not None and before != life):
            self.changes += 1
        self._met[address] = life


def _fields(said: object) -> Mapping[str, str]:
    if not isinstance(said, bytes):
        return {}  # it may not be asked
    lines = (line.partition(":") for line in said.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
