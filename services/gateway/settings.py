"""A gateway's settings: every variable, its default and its reason."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from libs import settings
from libs.identity import issuers, seals
from services.gateway import addresses


class GatewaySettings(settings.PartitionedSettings, frozen=True, kw_only=True):
    gateway_id: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$", description="This gateway's name: letters, digits, hyphens.")
    ] = "gateway"
    websocket_host: Annotated[str, Meta(description="Where clients connect.")] = "0.0.0.0"
    websocket_port: Annotated[int, Meta(ge=0, le=65535, description="A port from 0 (any) to 65535.")] = 3001
    websocket_url: Annotated[str, Meta(description="The address that /info gives to clients.")] = ""

    token_key_file: issuers.TokenKeyFile = Path(".local/issuer/public.pem")
    token_issuer: issuers.TokenIssuer = "talowa-local"
    token_audience: issuers.TokenAudience = "talowa-local"
    firebase_project_id: issuers.ProjectId = ""
    firebase_certificates_url: issuers.CertificatesUrl = issuers.GOOGLE
    ticket_secret: Annotated[
        str,
        Meta(
            description="At least 32 characters, the same on every gateway: it signs resume tickets. Several, with "
            "commas: the first signs, all are believed."
        ),
    ]
    ticket_lifetime_s: Annotated[int, Meta(ge=60, le=86_400, description="How long a resume ticket is good.")] = 3600
    admin_token: Annotated[
        str,
        Meta(
            description="Opens operators' calls; without it only ID tokens of admins and founders do. Several, with "
            "commas: each opens."
        ),
    ] = ""
    allowed_origins: Annotated[
        str,
        Meta(description="Web origins that may connect, separated by commas, or *. Sign-in is by token, not cookie."),
    ] = "*"

    ping_interval_s: Annotated[float, Meta(gt=0, le=300, description="A ping this often.")] = 25.0
    ping_timeout_s: Annotated[float, Meta(gt=0, le=300, description="No pong for this long: the socket is gone.")] = (
        60.0
    )
    sign_in_timeout_s: Annotated[
        float, Meta(gt=0, le=300, description="A socket that has not signed in by then is closed.")
    ] = 30.0
    request_timeout_s: Annotated[
        float,
        Meta(
            gt=0, le=300, description="A connection's first request, and any body, that has not come by then: closed."
        ),
    ] = 30.0
    keep_alive_s: Annotated[
        float,
        Meta(gt=0, le=3600, description="An idle HTTP connection is closed; longer than a proxy in front keeps one."),
    ] = 75.0
    idle_per_address: Annotated[
        int,
        Meta(
            ge=0, le=100_000, description="Idle HTTP connections of an address, but a trusted proxy's; 0: any number."
        ),
    ] = 500
    answer_timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="A router that has not answered a sign-in by then counts as away.")
    ] = 10.0
    sign_ins_at_once: Annotated[
        int, Meta(ge=1, le=100_000, description="Sign-ins that are worked on at the same time; others wait their turn.")
    ] = 200
    token_warning_s: Annotated[
        int, Meta(ge=0, description="`token_expiring` is sent this long before a token ends.")
    ] = 300
    token_grace_s: Annotated[
        int, Meta(ge=0, description="A socket is closed when its token has been over for this long.")
    ] = 300
    page_timeout_s: Annotated[
        float, Meta(gt=0, le=120, description="A page not confirmed by then: live messages wait no longer for it.")
    ] = 10.0

    typing_s: Annotated[
        float, Meta(gt=0, le=60, description="Typing that is not said again for so long has stopped.")
    ] = 10.0

    frame_max_bytes: Annotated[int, Meta(ge=1024, le=1 << 20, description="A larger frame is refused.")] = 65_536
    outbox_max_bytes: Annotated[
        int, Meta(ge=65_536, description="Bytes that wait for one socket; beyond it, it is closed and all stays due.")
    ] = 524_288
    compress_min_bytes: Annotated[
        int,
        Meta(ge=0, description="What is larger is sent compressed to clients that offer it; 0 compresses nothing."),
    ] = 1024
    relay_address: Annotated[
        str,
        Meta(
            pattern=r"^(\S+:[0-9]{1,5})?$",
            description="host:port where other gateways reach INTERNAL_PORT; empty takes this machine's own address.",
        ),
    ] = ""
    uplink_max_frames: Annotated[
        int, Meta(ge=1, description="Frames that wait for the broker; beyond it, clients are refused.")
    ] = 10_000
    linger_ms: Annotated[
        float, Meta(ge=0, le=100, description="How long a busy gateway gathers before it writes; 0 to 100.")
    ] = 5.0
    beat_ms: Annotated[
        float,
        Meta(ge=0, le=50, description="A busy gateway looks at its sockets this often, to save CPU; 0: always."),
    ] = 10.0
    confirm_gather_ms: Annotated[
        float, Meta(ge=0, le=1000, description="How long acknowledgements are gathered: a tick may be as much later.")
    ] = 50.0
    overload_lag_s: Annotated[
        float, Meta(gt=0, description="Routers this far behind: what would make it worse is refused.")
    ] = 10.0
    overload_entries: Annotated[
        int, Meta(ge=100, description="Entries on one inbound stream; beyond it, clients are refused.")
    ] = 50_000
    frames_per_s: Annotated[
        int, Meta(ge=0, le=100_000, description="Events a socket may send a second, in the long run; 0: any number.")
    ] = 50
    frames_burst: Annotated[int, Meta(ge=1, le=100_000, description="Events a socket may send at once.")] = 200
    socket_bytes_per_s: Annotated[
        int,
        Meta(ge=0, le=1 << 30, description="A WebSocket is read this fast in the long run, 8 s worth at once; 0: any."),
    ] = 131_072
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Proxies whose X-Forwarded-For is believed: networks, separated by commas, such as 10.0.0.0/8."
        ),
    ] = ""
    proxy_protocol: Annotated[
        Literal["off", "on"],
        Meta(description="on: each connection of TRUSTED_PROXIES begins with a PROXY header, version 1 or 2."),
    ] = "off"
    connects_per_minute: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Connections an address may open in any minute; 0: any number.")
    ] = 600
    sign_ins_per_minute: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Sign-ins an address may try in any minute; 0: any number.")
    ] = 300
    subscriptions_per_minute: Annotated[
        int, Meta(ge=0, le=10_000, description="Presence a session may ask or set in any minute; 0: any number.")
    ] = 60
    joins_per_minute: Annotated[
        int, Meta(ge=0, le=10_000, description="Joins and leaves a session may ask in any minute; 0: any number.")
    ] = 120
    typing_per_minute: Annotated[
        int, Meta(ge=0, le=10_000, description="Typing events of a session in any minute; 0: any number.")
    ] = 120
    broadcasts_per_minute: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Broadcasts a session may ask in any minute, those sent again or refused too; 0: any number.",
        ),
    ] = 30
    get_keys_per_minute: Annotated[
        int, Meta(ge=0, le=10_000, description="Users whose keys a session may ask in any minute; 0: any number.")
    ] = 30
    publish_keys_per_minute: Annotated[
        int, Meta(ge=0, le=10_000, description="Key bundles a session may publish in any minute; 0: any number.")
    ] = 20
    searches_per_minute: Annotated[
        int, Meta(ge=0, le=10_000, description="Searches a session may ask in any minute; 0: any number.")
    ] = 30
    history_per_minute: Annotated[
        int, Meta(ge=0, le=10_000, description="Histories and syncs a session may ask in any minute; 0: any number.")
    ] = 240
    sockets_soft_max: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="With so many sockets a gateway is not ready, so that who comes goes to another; it refuses "
            "nobody. 0: any number.",
        ),
    ] = 0
    tracing_share: Annotated[
        float, Meta(ge=0, le=1, description="The share of messages, taken in here, that are traced; see TRACING.")
    ] = 0.01
    drain_window_s: Annotated[
        float, Meta(ge=0, le=600, description="Leaving sockets are closed spread over this time, or longer.")
    ] = 3.0
    # A gateway signs in some 1,400 a second and core: of the last one that is left, two thirds stay for messages.
    drain_sign_ins_per_s: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Sign-ins a second that a drain may bring elsewhere; its window stretches. 0: any number.",
        ),
    ] = 500
    # Kubernetes kills after 30 s; a farewell takes up to three.
    drain_deadline_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="After SIGTERM, what is still open by then is closed at once; allow 5 s more before SIGKILL.",
        ),
    ] = 25.0
    # Nobody is in a hurry: a fifth of what a drain may bring.
    rebalance_sign_ins_per_s: Annotated[
        int,
        Meta(ge=0, le=100_000, description="Sign-ins a second that a rebalance may bring, in all. 0: any number."),
    ] = 100
    rebalance_rest_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="A socket moves only after it has been here for so long: nobody moves twice."),
    ] = 120.0
    rebalance_every_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="Look this often whether sockets are uneven, and act when it lasts; 0: never."),
    ] = 0.0

    presence_grace_s: Annotated[
        float, Meta(ge=0, le=60, description="Who is back within this time was never seen to be offline.")
    ] = 0.6
    presence_watches_max: Annotated[
        int, Meta(ge=1, le=100_000, description="People whose presence one socket may watch.")
    ] = 2000

    def problems(self) -> list[str]:
        """What the fields cannot say one by one."""
        found = super().problems()
        if self.sign_in_timeout_s < self.answer_timeout_s:
            found.append(
                f"SIGN_IN_TIMEOUT_S={self.sign_in_timeout_s:g} is shorter than ANSWER_TIMEOUT_S="
                f"{self.answer_timeout_s:g}: sockets would be closed while they sign in. Raise the first or lower "
                "the second."
            )
        if self.drain_window_s > self.drain_deadline_s:
            found.append(
                f"DRAIN_WINDOW_S={self.drain_window_s:g} is longer than DRAIN_DEADLINE_S={self.drain_deadline_s:g}: "
                "the drain would be cut short. Lower the first, or raise the second and the time until SIGKILL "
                "(terminationGracePeriodSeconds) with it."
            )
        found += seals.problems("TICKET_SECRET", self.ticket_secret)
        found += seals.problems("ADMIN_TOKEN", self.admin_token)
        found += seals.problems("CLUSTER_SECRET", self.cluster_secret)
        found += issuers.problems(self)
        try:
            addresses.networks(self.trusted_proxies)
        except ValueError as error:
            found.append(
                f"TRUSTED_PROXIES={self.trusted_proxies!r}: {error}. "
                "Give networks such as 10.0.0.0/8, separated by commas, or nothing if clients connect directly."
            )
        if self.proxy_protocol == "on" and not self.trusted_proxies:
            found.append(
                "PROXY_PROTOCOL=on, and TRUSTED_PROXIES is empty: nobody would be believed. "
                "Name the networks of the proxies, or turn it off."
            )
        return found
