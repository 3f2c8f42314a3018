"""The catalogue of presence's series."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from libs.telemetry import series
from libs.telemetry.process import ProcessMetrics


class PresenceMetrics:
    """All series of presence."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.process = ProcessMetrics(registry)
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
        self.store_documents = series.Totals(
            "talowa_presence_store_documents_total",
            "Documents that Firestore charges this process for: read, written, deleted.",
            "how",
            registry,
        )
        # What the broker's servers say of themselves, to whoever asks. `node` is the address in a cluster, else empty.
        self.redis_seen_at = Gauge(
            "talowa_redis_seen_timestamp_seconds",
            "When this server last said how it is, in seconds since 1970.",
            ["node"],
            registry=registry,
        )
        self.redis_memory_bytes = Gauge(
            "talowa_redis_memory_bytes", "Memory that this server uses.", ["node"], registry=registry
        )
        self.redis_memory_max_bytes = Gauge(
            "talowa_redis_memory_max_bytes",
            "Memory that it may use: maxmemory, or what its machine has.",
            ["node"],
            registry=registry,
        )
        self.redis_evicts = Gauge(
            "talowa_redis_evicts",
            "1 if it forgets what it likes when full: not noeviction.",
            ["node"],
            registry=registry,
        )
        self.redis_persists = Gauge(
            "talowa_redis_persists", "1 if it keeps an append-only file.", ["node"], registry=registry
        )
        self.redis_write_ok = Gauge(
            "talowa_redis_write_ok",
            "1 if what it last tried to write to its disk was written: file, rewrite, snapshot.",
            ["node"],
            registry=registry,
        )
        self.redis_replicas = Gauge(
            "talowa_redis_replicas", "Replicas that are connected to it.", ["node"], registry=registry
        )
        self.redis_clients = Gauge("talowa_redis_clients", "Connections that it has.", ["node"], registry=registry)
