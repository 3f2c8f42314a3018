"""The catalogue of a gateway's series."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from libs.telemetry import series
from libs.telemetry.process import ProcessMetrics

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Of a phone on 2G: to it, and back.
_PHONE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class GatewayMetrics:
    """All series of the gateway; labels are bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.process = ProcessMetrics(registry)
        self.connections = Gauge("talowa_gateway_connections", "Open connections.", registry=registry)
        self.connections_max = Gauge(
            "talowa_gateway_connections_max",
            "With so many this gateway is full: SOCKETS_SOFT_MAX, or the files it may open, if those are fewer.",
            registry=registry,
        )
        self.sessions = Gauge("talowa_gateway_sessions", "Signed-in sockets.", registry=registry)
        self.sign_ins = Counter(
            "talowa_gateway_sign_ins_total",
            "Sign-ins by result: ok, or the code of the refusal.",
            ["result"],
            registry=registry,
        )
        self.sign_in_s = Histogram(
            "talowa_gateway_sign_in_seconds",
            "From token to profile.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.certificates_age = Gauge(
            "talowa_gateway_certificates_age_seconds",
            "Time since Google's certificates were fetched; 0 without Firebase.",
            registry=registry,
        )
        self.events = Counter("talowa_gateway_events_total", "Events from clients.", ["event"], registry=registry)
        self.refusals = Counter("talowa_gateway_refusals_total", "Refusals by code.", ["code"], registry=registry)
        self.confirms_dropped = Counter(
            "talowa_gateway_confirms_dropped_total",
            "Acknowledgements dropped: the uplink was full, or they were too many. What they confirmed stays due.",
            registry=registry,
        )
        self.published_frames = Counter(
            "talowa_gateway_published_frames_total",
            "Frames taken for the routers, by kind; sealed ones by what is in them.",
            ["kind"],
            registry=registry,
        )
        self.uplink_frames = Gauge(
            "talowa_gateway_uplink_frames", "Frames that wait for the broker.", registry=registry
        )
        self.uplink_s = Histogram(
            "talowa_gateway_uplink_seconds",
            "Time of a write of what was gathered to the inbound streams.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.partition_lag_s = Gauge(
            "talowa_gateway_partition_lag_seconds",
            "Age of the oldest entry that no router has read, by partition; one second is none.",
            ["partition"],
            registry=registry,
        )
        self.downlink_frames = Counter(
            "talowa_gateway_downlink_frames_total",
            "Frames from routers and presence, as they stand on the streams.",
            ["kind"],
            registry=registry,
        )
        self.messages_sent = Counter(
            "talowa_gateway_messages_sent_total",
            "Messages handed to sockets, live or due; one for each socket.",
            registry=registry,
        )
        self.messages_acknowledged = Counter(
            "talowa_gateway_messages_acknowledged_total",
            "Messages that sockets acknowledged; one for each socket.",
            registry=registry,
        )
        self.confirm_s = series.Histogram(
            "talowa_gateway_confirm_seconds",
            "From when a message or a page of what is due came here to a phone's acknowledgement of it.",
            _PHONE_SECONDS,
            registry,
        )
        self.confirmed = Counter(
            "talowa_gateway_confirmed_total",
            "Messages x users in the confirmations that were taken for the routers.",
            registry=registry,
        )
        self.downlink_s = Histogram(
            "talowa_gateway_downlink_seconds",
            "From a router's write to our read, by the broker's and our clocks.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.canary_silent_s = Gauge(
            "talowa_gateway_canary_silent_seconds",
            "Since a canary came back last, by partition; the last one is that of broadcasts.",
            ["partition"],
            registry=registry,
        )
        self.canary_s = Histogram(
            "talowa_gateway_canary_seconds",
            "From a canary's leaving to its return.",
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.alarms = Counter(
            "talowa_gateway_broadcasts_emitted_total", "Broadcasts put on a socket as they came.", registry=registry
        )
        self.fenced = Counter(
            "talowa_gateway_fenced_sections_total",
            "Sections refused because their router had lost its partition.",
            registry=registry,
        )
        self.unreadable = Counter(
            "talowa_gateway_unreadable_entries_total",
            "Entries, and frames in them, that no reader of this version knows.",
            registry=registry,
        )
        self.outbox_bytes = Gauge(
            "talowa_gateway_outbox_bytes",
            "Bytes that wait for phones to read or to poll, of all sockets.",
            registry=registry,
        )
        self.stuck_sessions = Gauge(
            "talowa_gateway_stuck_sessions",
            "Sessions that something is due to and that have got no further with it for a minute.",
            registry=registry,
        )
        self.outbox_overflows = Counter(
            "talowa_gateway_outbox_overflows_total", "Sockets closed because they did not read.", registry=registry
        )
        self.waited_in_vain = Counter(
            "talowa_gateway_http_closed_total",
            "Connections closed for what did not come: preface (PROXY), head, body, answer (not read); "
            "crowd: too many idle ones.",
            ["why"],
            registry=registry,
        )
        for why in ("preface", "head", "body", "answer", "crowd"):
            self.waited_in_vain.labels(why)  # so that it is 0 before it is 1
        self.relayed = Counter(
            "talowa_gateway_relayed_total",
            "Requests for another gateway's socket: poll, post, upgrade passed on; its gateway unknown or unreachable.",
            ["kind"],
            registry=registry,
        )
        self.bridges = Gauge(
            "talowa_gateway_bridges", "WebSockets that pass through here to another gateway.", registry=registry
        )
        self.sent_back = Counter(
            "talowa_gateway_sent_back_total",
            "Sockets closed here to come back elsewhere: drain, deadline (at once, no time was left), rebalance.",
            ["why"],
            registry=registry,
        )
        self.compressed = Counter(
            "talowa_gateway_compressed_total", "Messages and polled bodies sent compressed.", registry=registry
        )
        self.revivals = Counter(
            "talowa_gateway_revivals_total",
            "Times this gateway was given up for dead (or its downlink was lost) and seated its users again.",
            registry=registry,
        )
        self.watched = Gauge(
            "talowa_gateway_watched_users", "People whose presence somebody here watches.", registry=registry
        )
        self.presence_updates = Counter(
            "talowa_gateway_presence_updates_total", "Changes of presence sent to sockets.", registry=registry
        )
