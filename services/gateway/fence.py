"""Which sections of a partition still count: those under no older fencing token than one seen before.

An older one is of a router that lost its partition, and whoever owns it now says everything again. Tokens rise for
ever, but the broker may forget how far they had come: in a failover it loses its newest writes, and the clock of the
new primary may be behind. Then it is the owner's token that is too old, and all it says is refused; so the gateway
tells the broker what it has seen, and the owner has to take its lease anew, under a token above that.
"""

from collections.abc import Iterable

from libs.broker import Broker
from libs.streams import leases
from libs.wire.frames import Section


class Fence:
    """The newest token of each partition."""

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}
        self._refused: set[int] = set()

    def passes(self, section: Section) -> bool:
        """Whether a section counts."""
        newest = self._newest.get(section.partition, 0)
        if section.token < newest:
            self._refused.add(section.partition)
            return False
        self._newest[section.partition] = section.token
        return True

    async def check(self, broker: Broker) -> bool:
        """Whether something was refused of late that an owner said: it said it to nobody. Raises `AWAY`."""
        refused, self._refused = self._refused, set()
        try:
            return await self._surpass(broker, refused)
        except BaseException:
            self._refused |= refused
            raise

    async def hold(self, broker: Broker) -> None:
        """Have every token from now on be above those seen, whatever the broker has forgotten. Raises `AWAY`."""
        await self._surpass(broker, self._newest)

    async def _surpass(self, broker: Broker, partitions: Iterable[int]) -> bool:
        calls = [leases.surpass(partition, self._newest[partition]) for partition in partitions]
        return bool(calls) and any(map(int, await broker.scripts(calls)))
