"""Who on this gateway lives where: an index of sessions by place, so that a broadcast costs its own audience."""

from collections.abc import Iterable, Iterator

from libs.wire.events import LEVELS
from libs.wire.frames import Places
from services.gateway.sessions import Session


class PlaceIndex:
    """Sessions by (level, place). A session is in it once a level at most."""

    def __init__(self) -> None:
        self._there: dict[tuple[str, str], set[Session]] = {}
        self._homes: dict[Session, Places] = {}

    def put(self, session: Session, places: Places) -> None:
        """The session's user lives there, and nowhere else."""
        self.remove(session)
        self._homes[session] = places
        for place in _named(places):
            self._there.setdefault(place, set()).add(session)

    def remove(self, session: Session) -> None:
        """Forget a session, if it is there."""
        for place in _named(self._homes.pop(session, Places())):
            there = self._there[place]
            there.discard(session)
            if not there:
                del self._there[place]

    def at(self, level: str, place_ids: Iterable[str]) -> Iterator[Session]:
        """Every session of who lives in one of these places of a level, once."""
        for place_id in set(place_ids):
            yield from tuple(self._there.get((level, place_id), ()))


def _named(places: Places) -> list[tuple[str, str]]:
    named = ((level, getattr(places, level)) for level in LEVELS)
    return [(level, place) for level, place in named if place]
