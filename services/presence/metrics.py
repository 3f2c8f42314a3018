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
