"""No fence: a router goes on with a batch whose partition it has lost, and gateways take what it says.

Either half alone does little harm: the router looks before it publishes, and gateways refuse older tokens.
"""

from libs.wire.frames import Section
from services.gateway.fence import Fence
from services.router.partition import Partition


def break_it() -> None:
    """Let everything pass, on both sides."""

    def let_pass(self: Fence, section: Section) -> bool:
        return True

    def is_lost(self: Partition) -> bool:
        return False

    def forget(self: Partition, value: bool) -> None:
        pass

    Fence.passes = let_pass  # type: ignore[method-assign]
    Partition.is_lost = property(is_lost, forget)  # type: ignore[assignment]
