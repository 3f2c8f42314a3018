"""What a swarm tells of its work, and how several swarms' add up."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct


class SignIns(Struct, frozen=True):
    """What came of signing in."""

    signed_in: int
    failed: dict[str, int]
    took_s: float
    own_cpu_s: float

    @property
    def summary(self) -> str:
        """In a line."""
        failed = "".join(f", {count} failed ({why})" for why, count in self.failed.items())
        return f"{self.signed_in} signed in at {self.signed_in / self.took_s:.0f}/s{failed}"

    @classmethod
    def of(cls, found: Sequence["SignIns"]) -> "SignIns":
        """What came of it in several swarms at once."""
        failed: Counter[str] = Counter()
        for each in found:
            failed.update(each.failed)
        return cls(
            signed_in=sum(each.signed_in for each in found),
            failed=dict(failed),
            took_s=max(each.took_s for each in found),
            own_cpu_s=sum(each.own_cpu_s for each in found),
        )


class Sent(Struct, frozen=True):
    """What came of a number of messages. `late_ms` is how far the client was behind its own schedule, at most.

    What came more than once is `doubled`: after a reconnect it may, until it is confirmed. What was answered and
    did not come is `lost`; of what is `missing` besides, nobody was told that it was sent.
    """

    sent: int
    answered: int
    refused: dict[str, int]
    due: int
    arrived: int
    missing: int
    lost: int
    doubled: int
    took_s: float
    late_ms: float
    own_cpu_s: float
    times_ms: list[float]

    @property
    def is_whole(self) -> bool:
        """Everything was answered and arrived, once."""
        return self.answered == self.sent and self.missing == self.doubled == 0

    @property
    def summary(self) -> str:
        """In a line."""
        p50, p99, most = (percentile(self.times_ms, share) for share in (0.5, 0.99, 1.0))
        return (
            f"{self.sent} sent, {self.answered} answered, {sum(self.refused.values())} refused {self.refused or ''}, "
            f"{self.arrived} of {self.due} arrived ({self.missing} missing, {self.lost} of them lost, "
            f"{self.doubled} doubled); p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {most:.0f} ms; "
            f"client {self.own_cpu_s / max(1, self.sent) * 1e6:.0f} µs a message"
        )

    @classmethod
    def of(cls, found: Sequence["Sent"]) -> "Sent":
        """What came of it in several swarms at once."""
        refused: Counter[str] = Counter()
        for each in found:
            refused.update(each.refused)
        return cls(
            sent=sum(each.sent for each in found),
            answered=sum(each.answered for each in found),
            refused=dict(refused),
            due=sum(each.due for each in found),
            arrived=sum(each.arrived for each in found),
            missing=sum(each.missing for each in found),
            lost=sum(each.lost for each in found),
            doubled=sum(each.doubled for each in found),
            took_s=max(each.took_s for each in found),
            late_ms=max(each.late_ms for each in found),
            own_cpu_s=sum(each.own_cpu_s for each in found),
            times_ms=[time_ms for each in found for time_ms in each.times_ms],
        )


def lost(owed: Sequence[int], answered: Sequence[int]) -> int:
    """Copies that did not come (`owed`, below 0 where one came twice) of messages that were `answered` (0 or 1)."""
    return sum(copies for copies, said in zip(owed, answered, strict=True) if said and copies > 0)


def percentile(times: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed; 0 of none."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] if times else 0.0
