"""Report: what a checker found, for a person to read when a test fails."""

from dataclasses import dataclass
from typing import Final

_SHOWN_PER_KIND: Final = 10


@dataclass(frozen=True)
class Report:
    """What was found. Everything above `messages` breaks a promise, the rest informs."""

    lost: tuple[str, ...] = ()
    """Accepted, and never seen by a device that should have."""
    doubled: tuple[str, ...] = ()
    """Two ids for one (sender, clientId), two places for one id, or two ids in one place."""
    out_of_order: tuple[str, ...] = ()
    """First seen by a device after a later one of the same conversation."""
    gaps: tuple[str, ...] = ()
    """A seq of a conversation that nobody saw and nobody was answered."""
    went_back: tuple[str, ...] = ()
    """A status after a further one, on one device."""
    strays: tuple[str, ...] = ()
    """A direct message on a device of neither of the two."""
    malformed: tuple[str, ...] = ()
    """An answer or an event that PROTOCOL does not know."""

    messages: int = 0
    """Accepted, each once however often it was sent."""
    refused: tuple[str, ...] = ()
    """Refused, and not accepted on another try."""
    unanswered: tuple[str, ...] = ()
    """Never answered on any try, nor told of in a status."""
    sightings: int = 0
    redeliveries: int = 0
    """Pushed to a device that had seen it: allowed, a device that keeps ids drops them."""

    @property
    def violations(self) -> dict[str, tuple[str, ...]]:
        """The kinds of violation, and what was found of each."""
        return {
            "lost": self.lost,
            "doubled": self.doubled,
            "out of order": self.out_of_order,
            "gaps": self.gaps,
            "went back": self.went_back,
            "strays": self.strays,
            "malformed": self.malformed,
        }

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.violations.values())

    def __str__(self) -> str:
        lines = [
            f"{self.messages} messages accepted, {len(self.refused)} refused, {len(self.unanswered)} unanswered",
            f"{self.sightings} sightings, {self.redeliveries} of them again",
        ]
        for kind, found in self.violations.items():
            lines.append(f"  {kind:<13}{len(found):>6}")
            lines += [f"      {text}" for text in found[:_SHOWN_PER_KIND]]
            if len(found) > _SHOWN_PER_KIND:
                lines.append(f"      … and {len(found) - _SHOWN_PER_KIND} more")
        return "\n".join(lines)
