"""What the works find."""

from collections.abc import Mapping, Sequence
from statistics import mean

from msgspec import Struct

from loadtests.tallies import Sent, SignIns, percentile


class Flow(Struct, frozen=True, kw_only=True):
    """Direct messages at a set rate. CPU is per message, of the servers and the broker, beyond idling; by role."""

    rate: float
    sent: int
    answered: int
    refused: dict[str, int]
    due: int
    arrived: int
    missing: int
    lost: int
    doubled: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: dict[str, float]
    client_us: float
    client_late_ms: float

    @classmethod
    def of(cls, sent: Sent, rate: float, used: Mapping[str, float]) -> "Flow":
        """From what clients counted, and CPU seconds by role."""
        count = max(1, sent.sent)
        return cls(
            rate=rate,
            sent=sent.sent,
            answered=sent.answered,
            refused=sent.refused,
            due=sent.due,
            arrived=sent.arrived,
            missing=sent.missing,
            lost=sent.lost,
            doubled=sent.doubled,
            p50_ms=round(percentile(sent.times_ms, 0.5), 1),
            p99_ms=round(percentile(sent.times_ms, 0.99), 1),
            max_ms=round(max(sent.times_ms, default=0.0), 1),
            cpu_us={role: round(seconds / count * 1e6, 1) for role, seconds in used.items()},
            client_us=round(sent.own_cpu_s / count * 1e6, 1),
            client_late_ms=round(sent.late_ms, 1),
        )

    @property
    def is_whole(self) -> bool:
        """Every message was answered and arrived."""
        return self.answered == self.sent and self.missing == 0


class Entry(Struct, frozen=True, kw_only=True):
    """People sign in: those of `asked` who fit this machine. CPU ms is each one's, by role, beyond idling."""

    asked: int
    wanted: int
    signed_in: int
    failed: dict[str, int]
    took_s: float
    cpu_ms: dict[str, float]
    client_cpu_ms: float

    @classmethod
    def of(cls, asked: int, wanted: int, found: SignIns, used: Mapping[str, float]) -> "Entry":
        """From what clients counted, and CPU seconds by role."""
        count = max(1, found.signed_in)
        return cls(
            asked=asked,
            wanted=wanted,
            signed_in=found.signed_in,
            failed=found.failed,
            took_s=round(found.took_s, 1),
            cpu_ms={role: round(seconds / count * 1e3, 3) for role, seconds in used.items()},
            client_cpu_ms=round(found.own_cpu_s / count * 1e3, 3),
        )


class Hold(Struct, frozen=True, kw_only=True, tag_field="work", tag="hold"):
    """Many sockets at once. `kb` is memory in RAM for each socket, by role, over a cluster with none."""

    gateways: int
    entry: Entry
    kb: dict[str, float]
    kb_after: dict[str, float]
    idle_percent: dict[str, float]
    flow: Flow
    signed_in_after: int
    closed: dict[int, int]
    complaints: dict[str, int]


class Cell(Struct, frozen=True, kw_only=True):
    """One size of cluster and crowd: the same number of people write, all over the crowd; then everyone."""

    gateways: int
    entry: Entry
    idle_percent: float
    some: Flow
    everyone: Flow
    complaints: dict[str, int]


class Growth(Struct, frozen=True, kw_only=True, tag_field="work", tag="growth"):
    """CPU of a message as gateways and sockets are added."""

    writers: int
    cells: list[Cell]


class Sample(Struct, frozen=True):
    """KB in RAM by role, so many seconds after the beginning."""

    at_s: float
    rss_kb: dict[str, int]


class Endure(Struct, frozen=True, kw_only=True, tag_field="work", tag="endure"):
    """One gateway, messages for minutes, memory every few seconds."""

    minutes: float
    entry: Entry
    flow: Flow
    samples: list[Sample]
    signed_in_after: int
    closed: dict[int, int]
    complaints: dict[str, int]


class Failover(Struct, frozen=True, kw_only=True, tag_field="work", tag="failover"):
    """One gateway is killed. Seconds are from the kill; `all_back_s` is none if some did not come back.

    `per_second` are sign-ins in each second; CPU seconds, by process, are until all were back.
    """

    gateways: int
    entry: Entry
    on_it: int
    back: int
    back_p50_s: float
    back_p99_s: float
    all_back_s: float | None
    per_second: list[int]
    turned_away: dict[str, int]
    closed: dict[int, int]
    cpu_s: dict[str, float]
    client_cpu_s: float
    flow: Flow
    complaints: dict[str, int]


class Restart(Struct, frozen=True):
    """One gateway: how many sockets it had, and how long it took until it was gone, and until it was ready again."""

    gateway: str
    sockets: int
    gone_s: float
    ready_s: float


class Rolling(Struct, frozen=True, kw_only=True, tag_field="work", tag="rolling"):
    """All gateways are restarted, one after another. `per_second` are sign-ins in each second from the first on."""

    gateways: int
    entry: Entry
    heeds: float
    bound_per_s: int
    restarts: list[Restart]
    took_s: float
    back: int
    signed_in_after: int
    per_second: list[int]
    turned_away: dict[str, int]
    closed: dict[int, int]
    before: Flow
    flow: Flow
    complaints: dict[str, int]


class Spread(Struct, frozen=True):
    """How many sockets each gateway had, so many seconds after the order."""

    at_s: float
    sockets: list[int]


class Rebalanced(Struct, frozen=True, kw_only=True, tag_field="work", tag="rebalance"):
    """A gateway is added, and sockets are spread evenly. `even_s` is none if they were not in time."""

    gateways: int
    entry: Entry
    heeds: float
    bound_per_s: int
    rest_s: float
    target: int
    excess: list[int]
    moved: int
    even_s: float | None
    samples: list[Spread]
    per_second: list[int]
    turned_away: dict[str, int]
    closed: dict[int, int]
    before: Flow
    flow: Flow
    complaints: dict[str, int]


Row = Hold | Growth | Endure | Failover | Rolling | Rebalanced


class Trend(Struct, frozen=True):
    """Memory in the first and in the last third of the samples, and what that comes to in an hour."""

    first_mb: float
    last_mb: float
    mb_an_hour: float

    @property
    def ratio(self) -> float:
        """The last third to the first."""
        return self.last_mb / self.first_mb if self.first_mb else 1.0


def trend(samples: Sequence[Sample], role: str) -> Trend:
    """How one role's memory went. Raises `ValueError` for fewer than three samples."""
    if (third := len(samples) // 3) == 0:
        raise ValueError(f"{len(samples)} samples have no thirds")
    first, last = (
        [(each.at_s, each.rss_kb[role] / 1024) for each in part] for part in (samples[:third], samples[-third:])
    )
    (began_s, first_mb), (ended_s, last_mb) = (tuple(map(mean, zip(*part, strict=True))) for part in (first, last))
    return Trend(first_mb, last_mb, (last_mb - first_mb) / (ended_s - began_s) * 3600)


def per_second(since: float, moments: Sequence[float]) -> list[int]:
    """How many of these moments are in each second since."""
    if not moments:
        return []
    counts = [0] * (int(max(moments) - since) + 1)
    for at in moments:
        counts[int(at - since)] += 1
    return counts
