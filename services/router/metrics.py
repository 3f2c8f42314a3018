"""The catalogue of a router's series."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from libs.telemetry import series
from libs.telemetry.process import ProcessMetrics

_WAY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)
_STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class RouterMetrics:
    """All series of the router; labels are bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.process = ProcessMetrics(registry)
        self.partitions_owned = Gauge(
            "talowa_router_partitions_owned", "Partitions this router has the lease of.", registry=registry
        )
        self.frames = Counter("talowa_router_frames_total", "Frames read from gateways.", ["kind"], registry=registry)
        self.forwarded_frames = Counter(
            "talowa_router_forwarded_frames_total",
            "Frames passed on to another partition.",
            ["kind"],
            registry=registry,
        )
        self.downlink_frames = Counter(
            "talowa_router_downlink_frames_total", "Frames published to gateways.", ["kind"], registry=registry
        )
        self.confirmed = Counter(
            "talowa_router_confirmed_total",
            "Messages x users in the confirmations read from gateways.",
            registry=registry,
        )
        self.unreadable = Counter(
            "talowa_router_unreadable_frames_total", "Frames that no reader of this version knows.", registry=registry
        )
        self.unopened = Counter(
            "talowa_router_unopened_seals_total",
            "Sealed frames and authors that no key opens: a key was taken away too early.",
            registry=registry,
        )
        self.messages = Counter(
            "talowa_router_messages_total",
            "Messages by what became of them: sent, queued, repeat, refused.",
            ["outcome"],
            registry=registry,
        )
        self.broadcasts = Counter(
            "talowa_router_broadcasts_total",
            "Broadcasts by what became of them: sent, queued, repeat, refused.",
            ["outcome"],
            registry=registry,
        )
        self.refusals = Counter("talowa_router_refusals_total", "Refusals by code.", ["code"], registry=registry)
        self.batch_frames = Histogram(
            "talowa_router_batch_frames",
            "Frames a batch.",
            buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000),
            registry=registry,
        )
        self.stage_s = Histogram(
            "talowa_router_stage_seconds",
            "Time of a batch in each stage: decide, save, publish, acknowledge.",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.station_s = series.Histogram(
            "talowa_router_station_seconds",
            "From when a message's gateway took it to a station of its way: read, save, publish. By both clocks.",
            _WAY_BUCKETS,
            registry,
            label="station",
            values=("read", "save", "publish"),
        )
        self.search_s = Histogram(
            "talowa_router_search_seconds",
            "Time of a search, from its batch to its answer.",
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.parked = Gauge(
            "talowa_router_parked_frames", "Frames that wait for the store to come back.", registry=registry
        )
        self.store_away = Gauge("talowa_router_store_away", "1 while the store is away.", registry=registry)
        self.store_s = Histogram(
            "talowa_router_store_seconds",
            "Calls to the store that it answered, by call (services/router/store).",
            ["call"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.store_errors = Counter(
            "talowa_router_store_errors_total",
            "Calls that the store did not answer: it is away, or refuses.",
            ["call"],
            registry=registry,
        )
        self.store_documents = series.Totals(
            "talowa_router_store_documents_total",
            "Documents that Firestore charges this process for: read, written, deleted.",
            "how",
            registry,
        )
        self.leases_lost = Counter(
            "talowa_router_leases_lost_total", "Leases that lapsed or were taken while we held them.", registry=registry
        )
        self.lag_entries = Gauge(
            "talowa_router_lag_entries",
            "Entries on the inbound streams of owned partitions that are not acknowledged.",
            ["partition"],
            registry=registry,
        )
        self.canary_silent_s = Gauge(
            "talowa_router_canary_silent_seconds",
            "Since a canary was answered last, by owned partition.",
            ["partition"],
            registry=registry,
        )
        self.gateways_gone = Counter(
            "talowa_router_undelivered_flushes_total",
            "Flushes for a gateway that had no downlink any more; what they held stays due, and is in no other count.",
            registry=registry,
        )
        self.unaccounted = Gauge(
            "talowa_unaccounted_messages",
            "Messages that were accepted and that nobody can account for, of the partitions owned here. 0 is right.",
            registry=registry,
        )
        self.in_flight = Gauge(
            "talowa_in_flight_messages", "Messages that have a place and are not saved yet.", registry=registry
        )
        self.abandoned = Gauge(
            "talowa_abandoned_messages",
            "Messages that were given a place and got no further: their senders heard nothing, and send again.",
            registry=registry,
        )
        self.audited = Counter(
            "talowa_audited_messages_total", "Messages whose ledger was compared with the store.", registry=registry
        )
        self.audit_behind_s = Gauge(
            "talowa_audit_behind_seconds",
            "How long ago the ledger was compared as far as it should be; grows while the store is away.",
            registry=registry,
        )
        self.retired = Counter(
            "talowa_router_retired_messages_total",
            "Messages that left the hot log, because everybody had confirmed them long ago.",
            registry=registry,
        )
        self.retention_run_at = Gauge(
            "talowa_router_retention_run_timestamp_seconds",
            "When retention last ran to its end here, in seconds since 1970; 0 if never.",
            registry=registry,
        )
        self.retention_s = Gauge(
            "talowa_router_retention_seconds", "How long that run of retention took.", registry=registry
        )
        self.pushes = Counter(
            "talowa_router_pushes_total",
            "Pushes to devices and topics by what became of them: sent, dead (nobody has the token any more), retry, "
            "refused, given_up, unknown (handed on by a router that died).",
            ["result"],
            registry=registry,
        )
        self.pushes_waiting = Gauge(
            "talowa_router_pushes_waiting", "Pushes that are made and not sent yet, by user.", registry=registry
        )
        self.accounts = Counter(
            "talowa_router_account_checks_total",
            "Accounts of those who signed in, looked at in the background: good, void; away, when none could be.",
            ["result"],
            registry=registry,
        )
        self.receipts_unsaved = Gauge(
            "talowa_router_receipts_unsaved",
            "Receipts that are in the broker and not yet in the store.",
            registry=registry,
        )
