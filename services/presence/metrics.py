"""The catalogue of presence's series."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class PresenceMetrics:
    """All series of presence."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.gateways = Gauge("talowa_presence_gateways", "Live gateways.", registry=registry)
        self.reaped = Counter("talowa_presence_gateways_reaped_total", "Gateways cleared away.", registry=registry)
        self.seats_reaped = Counter(
            "talowa_presence_seats_reaped_total", "Seats that went with their gateway.", registry=registry
        )
        self.downlinks_dropped = Counter(
            "talowa_presence_downlinks_dropped_total",
            "Downlinks dropped because their gateway did not read; its sessions fetch what they missed.",
            registry=registry,
        )
        self.shards = Gauge(
            "talowa_presence_shards", "Shards of the directory that this copy announces.", registry=registry
        )
        self.late_s = Gauge(
            "talowa_presence_late_seconds",
            "How much later than it should the oldest change was looked at, in the last turn.",
            registry=registry,
        )
        self.announced = Counter(
            "talowa_presence_announced_total",
            "Changes published, once for each gateway that watches, by status.",
            ["status"],
            registry=registry,
        )
        self.published_frames = Counter(
            "talowa_presence_published_frames_total", "Frames of changes published to gateways.", registry=registry
        )
        self.looked_up = Counter(
            "talowa_presence_looked_up_total", "Users of whom only the store knew.", registry=registry
        )
        self.forgotten = Counter(
            "talowa_presence_forgotten_total",
            "Users away for a week whom the broker need not hold any more.",
            registry=registry,
        )
        self.saved = Counter("talowa_presence_saved_total", "Last-seen times saved.", registry=registry)
        self.store_away = Gauge(
            "talowa_presence_store_away", "1 while last-seen times cannot be saved or read.", registry=registry
        )
