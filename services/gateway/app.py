"""The composition root of a gateway: read top to bottom."""

import asyncio
import math
import secrets
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from libs import broker, cluster, lifecycle, settings
from libs.directory import Directory, Watchers
from libs.figures import Reporter
from libs.identity import Envelopes, Tickets, issuers, seals
from libs.limits import Limiter
from libs.operators import Operators
from libs.streams.producer import Producer
from libs.telemetry import health, logs
from libs.telemetry.tracing import open_tracing
from libs.wheel import Wheel
from services.gateway import addresses, broadcasts, downlink, http, ledger, minutes, neighbours, relay
from services.gateway.alarms import Alarms
from services.gateway.auth import Authenticator
from services.gateway.canaries import Canaries
from services.gateway.capacity import Capacity
from services.gateway.catchup import CatchUp
from services.gateway.compression import Compression
from services.gateway.confirmations import Confirmations
from services.gateway.door import Door
from services.gateway.doorstep import Doorstep
from services.gateway.downlink import DownlinkReader
from services.gateway.drain import Drain
from services.gateway.fence import Fence
from services.gateway.figures import OwnFigures
from services.gateway.heartbeat import Heartbeat
from services.gateway.keystrokes import Keystrokes
from services.gateway.metrics import GatewayMetrics
from services.gateway.minutes import Minutes
from services.gateway.moderation import Moderation
from services.gateway.neighbours import Neighbours
from services.gateway.operations import Operations
from services.gateway.pace import Paces
from services.gateway.questions import Questions
from services.gateway.rebalance import Rebalance
from services.gateway.relay import Relay
from services.gateway.requests import Requests
from services.gateway.sessions import Acks, Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.sockets import Server
from services.gateway.standings import Standings
from services.gateway.turnstile import Turnstile
from services.gateway.typists import Typists
from services.gateway.uplink import Uplink
from services.gateway.watching import Watching

log = structlog.get_logger(__name__)

# A gateway that hangs closes its sockets within the first, and is gone within the second.
_HASTE_S: Final = 3.0
_SURRENDER_S: Final = 15.0
# A page that is not confirmed is waited for 10 s; who has got no further for so long is stuck.
_STUCK_S: Final = 60.0


async def main(stop: asyncio.Event) -> None:
    """Run a gateway until `stop` is set, then drain it."""
    s = settings.load(GatewaySettings)
    # A name of its own for every start: seats and a downlink belong to one process, not to a place.
    gateway = f"{s.gateway_id}-{secrets.token_hex(4)}"
    errors = logs.configure("gateway", gateway, s.log_level)
    file_limit = lifecycle.raise_file_limit()
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    surrender = lifecycle.Surrender(stop, _SURRENDER_S)

    async with (
        open_tracing(s.tracing, "gateway", gateway, s.tracing_share) as tracing,
        broker.connect(s.redis_url) as commands,
        broker.connect(s.redis_url, blocking_s=downlink.BLOCK_MS / 1000) as reader,
        relay.open_session() as neighbourhood,
        issuers.open_issuer(s) as issuer,
    ):
        await broker.wait_until_usable(commands, stop)
        await cluster.agree_on_partitions(commands, s.partitions)
        directory = Directory(commands)
        sessions = Sessions()
        producer = Producer(
            commands, limit=s.uplink_max_frames, linger_s=s.linger_ms / 1000, took=metrics.uplink_s.observe
        )
        envelopes = Envelopes(seals.keys_of(s.cluster_secret)) if s.cluster_secret else None
        ticket_secrets = seals.keys_of(s.ticket_secret)
        uplink = Uplink(
            producer,
            partitions=s.partitions,
            overload_lag_s=s.overload_lag_s,
            overload_entries=s.overload_entries,
            metrics=metrics,
            envelopes=envelopes,
        )
        wheel, acks, fence = Wheel(), Acks(), Fence()
        # When a gateway has died, thousands sign in here at once: all of them together would be late for everything.
        turns = asyncio.Semaphore(s.sign_ins_at_once)
        catchup = CatchUp(gateway, sessions, uplink, acks, wheel, page_timeout_s=s.page_timeout_s)
        linger_s = s.linger_ms / 1000
        watching = Watching(Watchers(commands), gateway, metrics, linger_s=linger_s, watches_max=s.presence_watches_max)
        standings = Standings(commands, watching, linger_s=linger_s)

        async with asyncio.TaskGroup() as tasks:
            authenticator = Authenticator(issuer, Tickets(ticket_secrets, s.ticket_lifetime_s * 1000))
            heartbeat = Heartbeat(
                commands,
                directory,
                gateway,
                sessions,
                uplink,
                partitions=s.partitions,
                linger_s=linger_s,
                presence_grace_s=s.presence_grace_s,
                fence=fence,
                read_up_to=lambda: frames.positions,
                reviving=lambda: prepare(frames, catchup),
                revived=lambda: revive(catchup, door, alarms, watching, metrics),
            )
            questions = Questions(gateway)
            turnstile = Turnstile(
                Limiter(commands, ticket_secrets[0].encode()),
                metrics,
                wheel,
                connects=s.connects_per_minute,
                sign_ins=s.sign_ins_per_minute,
            )
            paces = Paces(s.frames_per_s, s.frames_burst)
            alarms = Alarms(directory, sessions, catchup, acks, metrics, linger_s=linger_s)
            door = Door(
                gateway,
                authenticator,
                turnstile,
                questions,
                sessions,
                heartbeat,
                uplink,
                catchup,
                alarms,
                metrics,
                wheel,
                turns,
                sign_in_timeout_s=s.sign_in_timeout_s,
                answer_timeout_s=s.answer_timeout_s,
                token_warning_s=s.token_warning_s,
                token_grace_s=s.token_grace_s,
            )
            canaries = Canaries(
                commands,
                gateway,
                uplink,
                metrics,
                surrender,
                partitions=s.partitions,
                period_s=s.canary_s,
                read_up_to=lambda: frames.positions,
                read_failures=lambda: frames.failures,
                beats=lambda: heartbeat.turns,
            )
            frames = DownlinkReader(
                reader,
                gateway,
                sessions,
                catchup,
                door,
                questions,
                Typists(sessions, typing_s=s.typing_s),
                watching,
                alarms,
                acks,
                fence,
                lambda: succeed(frames, catchup, heartbeat),
                metrics,
                envelopes,
                canaries.heard,
                tracing,
            )
            confirmations = Confirmations(gateway, uplink, metrics, wheel, gather_s=s.confirm_gather_ms / 1000)
            requests = Requests(
                gateway,
                door,
                sessions,
                uplink,
                catchup,
                confirmations,
                watching,
                standings,
                metrics,
                tasks.create_task,
                paces,
                Minutes(minutes.per_minute(s)),
                Keystrokes(uplink, typing_s=s.typing_s),
                tracing,
            )
            proxies = addresses.networks(s.trusted_proxies)

            def came_from(request: web.Request) -> str:
                return addresses.client(request.remote, request.headers.getall("X-Forwarded-For", ()), proxies)

            poll_max_s = s.ping_interval_s + s.ping_timeout_s + s.answer_timeout_s
            doorstep = Doorstep(
                proxies,
                lambda why: metrics.waited_in_vain.labels(why).inc(),
                request_timeout_s=s.request_timeout_s,
                keep_alive_s=s.keep_alive_s,
                answer_timeout_s=poll_max_s,
                idle_per_address=s.idle_per_address,
                prefacing=s.proxy_protocol == "on",
            )
            compression = Compression(s.compress_min_bytes, metrics.compressed.inc)
            elsewhere = Relay(
                gateway,
                Neighbours(commands),
                neighbourhood,
                metrics,
                compression,
                secrets=ticket_secrets,
                poll_max_s=poll_max_s,
                frame_max_bytes=s.frame_max_bytes,
                client_address=came_from,
            )
            server = Server(
                requests,
                tasks,
                wheel,
                gateway=gateway,
                ping_interval_s=s.ping_interval_s,
                ping_timeout_s=s.ping_timeout_s,
                frame_max_bytes=s.frame_max_bytes,
                outbox_max_bytes=s.outbox_max_bytes,
                bytes_per_s=s.socket_bytes_per_s,
                allowed_origins=s.allowed_origins,
                connect_timeout_s=s.sign_in_timeout_s,
                turns=turns,
                overflowed=metrics.outbox_overflows.inc,
                came_from=came_from,
                admit=turnstile.connect,
                wasted=paces.frame,
                compression=compression,
                elsewhere=elsewhere.pass_on,
            )
            drain = Drain(
                server,
                elsewhere.bridges,
                heartbeat,
                door.send_back,
                metrics,
                tasks.create_task,
                sign_ins_per_s=s.drain_sign_ins_per_s,
            )
            rebalance = Rebalance(
                commands,
                gateway,
                server,
                sessions,
                drain,
                door.send_back,
                metrics,
                sign_ins_per_s=s.rebalance_sign_ins_per_s,
                rest_s=s.rebalance_rest_s,
                every_s=s.rebalance_every_s,
            )
            metrics.process.watch(errors, (commands, reader))
            metrics.outbox_bytes.set_function(lambda: sum(socket.waiting_bytes for socket in server.sockets.values()))
            metrics.stuck_sessions.set_function(lambda: sessions.stuck(_STUCK_S))
            metrics.connections.set_function(lambda: len(server.sockets))
            metrics.sessions.set_function(lambda: len(sessions))
            metrics.watched.set_function(lambda: len(watching))
            metrics.bridges.set_function(lambda: len(elsewhere.bridges))
            metrics.certificates_age.set_function(lambda: issuer.age_s)
            metrics.uplink_frames.set_function(lambda: len(uplink))

            capacity = Capacity(s.sockets_soft_max, lambda: len(server.sockets))
            capacity.check_files(file_limit)
            metrics.connections_max.set(capacity.most(file_limit))
            checks = {
                "broker": lambda: heartbeat.problem,
                "draining": lambda: drain.problem,
                "sockets": lambda: capacity.problem,
                "issuer": lambda: issuer.problem,
                "canary": lambda: canaries.problem,
            }
            public = http.public_app(s, checks)
            server.attach(public)
            internal = health.internal_app(registry, checks)
            operators = Operators(seals.keys_of(s.admin_token), door.role_of)
            http.add_operators(internal, operators, commands, partitions=s.partitions)
            operations = Operations(
                drain,
                rebalance,
                directory,
                questions,
                uplink,
                drain_window_s=s.drain_window_s,
                answer_timeout_s=s.answer_timeout_s,
            )
            operations.attach(internal, operators)

            elsewhere.serve(internal, server.engine.handle_relayed)
            broadcasts.add_routes(internal, operators, questions, uplink, answer_timeout_s=s.answer_timeout_s)

            ledger.add_routes(
                internal,
                operators,
                questions,
                uplink,
                partitions=s.partitions,
                answer_timeout_s=s.answer_timeout_s,
            )

            own_figures = OwnFigures(gateway, server, sessions, drain, metrics, errors, lambda: relay_address)
            reporter = Reporter(commands, gateway, own_figures)
            async with (
                health.serve(internal, s.internal_host, s.internal_port, "INTERNAL_PORT") as internal_port,
                health.serve(public, s.websocket_host, s.websocket_port, "WEBSOCKET_PORT", doorstep) as port,
            ):
                relay_address = s.relay_address or neighbours.address(s.internal_host, internal_port)
                working = (
                    uplink,
                    heartbeat,
                    frames,
                    turnstile,
                    alarms,
                    watching,
                    standings,
                    reporter,
                    issuer,
                    canaries,
                    rebalance,
                    doorstep,
                    Moderation(s.beat_ms / 1000, lambda: doorstep.arrived + server.engine.requests),
                )
                running = [tasks.create_task(work.run()) for work in working]
                running += [tasks.create_task(one.follow()) for one in (commands, reader)]
                lifecycle.settle_memory()
                log.info("started", port=port, internal_port=internal_port, file_limit=file_limit)
                await stop.wait()
                # What hangs keeps its clients waiting: they go at once.
                longest_s = math.inf if surrender.reason is None else _HASTE_S
                times_s = [min(longest_s, time_s) for time_s in (s.drain_window_s, s.drain_deadline_s)]
                await drain.leave(confirmations, uplink, *times_s)
            await lifecycle.cancel(running)
            await reporter.forget()
        surrender.complete()
        log.info("stopped")


def prepare(frames: DownlinkReader, catchup: CatchUp) -> None:
    """Before anything is said to this gateway again: what is said from then on is read once, and waits its turn."""
    frames.rewind()
    catchup.hold_all()


def succeed(frames: DownlinkReader, catchup: CatchUp, heartbeat: Heartbeat) -> None:
    """Another broker than before: what the one before had last is fetched ahead of what this one says."""
    prepare(frames, catchup)
    heartbeat.revive_soon()


def revive(catchup: CatchUp, door: Door, alarms: Alarms, watching: Watching, metrics: GatewayMetrics) -> None:
    """The cluster had forgotten this gateway, and remembers it again."""
    alarms.retell()
    catchup.restart_all()
    watching.rewatch()
    door.check_all()
    metrics.revivals.inc()
