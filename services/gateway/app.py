"""The composition root of a gateway: read top to bottom."""

import asyncio
import secrets

import structlog
from prometheus_client import CollectorRegistry

from libs import broker, cluster, lifecycle, settings
from libs.directory import Directory
from libs.figures import Reporter
from libs.identity import Tickets
from libs.operators import Operators
from libs.streams.producer import Producer
from libs.telemetry import health, logs
from services.gateway import downlink, http
from services.gateway.auth import Authenticator, LocalVerifier
from services.gateway.catchup import CatchUp
from services.gateway.door import Door
from services.gateway.downlink import DownlinkReader
from services.gateway.drain import Drain
from services.gateway.figures import OwnFigures
from services.gateway.heartbeat import Heartbeat
from services.gateway.metrics import GatewayMetrics
from services.gateway.operations import Operations
from services.gateway.questions import Questions
from services.gateway.requests import Requests
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.sockets import Server
from services.gateway.uplink import Uplink

log = structlog.get_logger(__name__)


async def main(stop: asyncio.Event) -> None:
    """Run a gateway until `stop` is set, then drain it."""
    s = settings.load(GatewaySettings)
    # A name of its own for every start: seats and a downlink belong to one process, not to a place.
    gateway = f"{s.gateway_id}-{secrets.token_hex(4)}"
    errors = logs.configure("gateway", gateway, s.log_level)
    file_limit = lifecycle.raise_file_limit()
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)

    async with (
        broker.connect(s.redis_url) as commands,
        broker.connect(s.redis_url, blocking_s=downlink.BLOCK_MS / 1000) as reader,
    ):
        await broker.wait_until_usable(commands, stop)
        await cluster.agree_on_partitions(commands, s.partitions)
        directory = Directory(commands)
        sessions = Sessions()
        producer = Producer(commands, limit=s.uplink_max_frames, linger_s=s.linger_ms / 1000)
        uplink = Uplink(
            producer,
            partitions=s.partitions,
            overload_lag_s=s.overload_lag_s,
            overload_entries=s.overload_entries,
        )
        catchup = CatchUp(gateway, sessions, uplink, page_timeout_s=s.page_timeout_s)

        async with asyncio.TaskGroup() as tasks:
            verifier = LocalVerifier(s.token_key_file, issuer=s.token_issuer, audience=s.token_audience)
            authenticator = Authenticator(verifier, Tickets(s.ticket_secret, s.ticket_lifetime_s * 1000))
            heartbeat = Heartbeat(
                commands,
                directory,
                gateway,
                sessions,
                uplink,
                partitions=s.partitions,
                linger_s=s.linger_ms / 1000,
                read_up_to=lambda: frames.position,
                reviving=catchup.hold_all,
                revived=lambda: revive(frames, catchup, door, metrics),
            )
            questions = Questions(gateway)
            door = Door(
                gateway,
                authenticator,
                questions,
                sessions,
                heartbeat,
                uplink,
                catchup,
                metrics,
                sign_in_timeout_s=s.sign_in_timeout_s,
                answer_timeout_s=s.answer_timeout_s,
                token_warning_s=s.token_warning_s,
                token_grace_s=s.token_grace_s,
            )
            frames = DownlinkReader(reader, gateway, sessions, catchup, door, questions, metrics)
            requests = Requests(gateway, door, sessions, uplink, catchup, metrics, tasks.create_task)
            server = Server(
                requests,
                tasks,
                gateway=gateway,
                ping_interval_s=s.ping_interval_s,
                ping_timeout_s=s.ping_timeout_s,
                frame_max_bytes=s.frame_max_bytes,
                outbox_max_bytes=s.outbox_max_bytes,
                allowed_origins=s.allowed_origins,
                connect_timeout_s=s.sign_in_timeout_s,
                overflowed=metrics.outbox_overflows.inc,
            )
            drain = Drain(server, tasks.create_task)
            metrics.connections.set_function(lambda: len(server.sockets))
            metrics.sessions.set_function(lambda: len(sessions))
            metrics.uplink_frames.set_function(lambda: len(uplink))

            checks = {
                "broker": lambda: heartbeat.problem,
                "draining": lambda: drain.problem,
            }
            public = http.public_app(s, checks)
            server.attach(public, "socket.io")
            internal = health.internal_app(registry, checks)
            operators = Operators(s.admin_token, door.role_of)
            http.add_operators(internal, operators, commands, partitions=s.partitions)
            operations = Operations(
                drain,
                directory,
                questions,
                uplink,
                drain_window_s=s.drain_window_s,
                answer_timeout_s=s.answer_timeout_s,
            )
            operations.attach(internal, operators)

            reporter = Reporter(commands, gateway, OwnFigures(gateway, server, sessions, drain, metrics, errors))
            running = [
                tasks.create_task(work) for work in (uplink.run(), heartbeat.run(), frames.run(), reporter.run())
            ]
            async with (
                health.serve(internal, s.internal_host, s.internal_port, "INTERNAL_PORT") as internal_port,
                health.serve(public, s.websocket_host, s.websocket_port, "WEBSOCKET_PORT") as port,
            ):
                log.info("started", port=port, internal_port=internal_port, file_limit=file_limit)
                await stop.wait()
                await drain.leave(uplink, heartbeat, s.drain_window_s)
            await lifecycle.cancel(running)
            await reporter.forget()
        log.info("stopped")


def revive(frames: DownlinkReader, catchup: CatchUp, door: Door, metrics: GatewayMetrics) -> None:
    """The cluster had forgotten this gateway, and remembers it again."""
    frames.rewind()
    catchup.restart_all()
    door.check_all()
    metrics.revivals.inc()
