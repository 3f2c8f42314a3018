"""What was asked of Firestore, as it charges for it: documents read, written and deleted."""

from msgspec import Struct

from libs.storage.firestore.query import Shape


class Bill(Struct):
    """Counted since the client was opened. A query that finds nothing is charged as one read."""

    reads: int = 0
    writes: int = 0
    deletes: int = 0
    shapes: set[Shape] = set()

    def note(self, *, reads: int = 0, writes: int = 0, deletes: int = 0) -> None:
        """Add to it."""
        self.reads += reads
        self.writes += writes
        self.deletes += deletes
