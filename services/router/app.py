"""The composition root of a router: read top to bottom."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry

from libs import broker, cluster, lifecycle, settings
from libs.broker import Broker
from libs.directory import Directory
from libs.figures import Reporter
from libs.identity import Envelopes, seals
from libs.limits import Limiter
from libs.storage.firestore.bill import Bill
from libs.storage.firestore.settings import limits_of, place_of
from libs.streams import producer
from libs.telemetry import health, logs
from libs.telemetry.tracing import open_tracing
from libs.wire import names
from libs.wire.frames import Origin, Revoke
from services.router import routing
from services.router.accounts import Accounts
from services.router.anonymity import Anonymity
from services.router.aside import Aside
from services.router.audit import Audit
from services.router.broadcasts import Broadcasts
from services.router.conversations import Conversations
from services.router.deafness import Watch
from services.router.delivery import Delivery
from services.router.due import DuePages
from services.router.figures import OwnFigures
from services.router.ledger import Notes
from services.router.metering import metered
from services.router.metrics import RouterMetrics
from services.router.moves import Moves
from services.router.people import People
from services.router.pushes import LogSender, Pushes, Sender
from services.router.rates import Rates, per_minute
from services.router.requests import Requests
from services.router.retention import Retention
from services.router.sayings import Sayings
from services.router.settings import RouterSettings
from services.router.sqlite import open_store
from services.router.store import Store, StoreAway
from services.router.tallies import Tallies
from services.router.traces import Traces
from services.router.typing_notices import TypingNotices
from services.router.worker import BLOCK_MS, Worker

log = structlog.get_logger(__name__)


# A store that is busy or away when a router starts is asked again this often.
_STORE_WAIT_S = 0.5
# Partitions are handed over within 2 s; a router that hangs has not got long for it.
_SURRENDER_S = 10.0


async def main(stop: asyncio.Event) -> None:
    """Run a router until `stop` is set."""
    s = settings.load(RouterSettings)
    # A name of its own for every start: a lease belongs to one process, not to a place.
    router = f"{s.router_id}-{secrets.token_hex(4)}"
    errors = logs.configure("router", router, s.log_level)
    file_limit = lifecycle.raise_file_limit()
    registry = CollectorRegistry()
    metrics = RouterMetrics(registry)
    surrender = lifecycle.Surrender(stop, _SURRENDER_S)

    async with (
        open_tracing(s.tracing, "router", router) as tracing,
        broker.connect(s.redis_url) as commands,
        broker.connect(s.redis_url, blocking_s=BLOCK_MS / 1000) as reader,
        _store(s, stop) as opened,
    ):
        await broker.wait_until_usable(commands, stop)
        store = metered(opened, metrics)
        metrics.process.watch(errors, (commands, reader))
        await cluster.agree_on_partitions(commands, s.partitions)
        people = People(store, s.people_cache_s)
        envelopes = Envelopes(seals.keys_of(s.cluster_secret)) if s.cluster_secret else None
        anonymity = (
            Anonymity(seals.keys_of(s.anonymity_keys), s.pseudonym_secret, metrics.unopened.inc)
            if s.anonymity_keys
            else None
        )
        conversations = Conversations(store, people, s.counted_members_max, anonymity)
        pages = DuePages(store, commands, partitions=s.partitions, messages=s.page_messages, bytes_=s.page_bytes)
        typing = TypingNotices(people, conversations, members_max=s.counted_members_max)
        accounts = _accounts(s, commands, metrics) if s.checks_accounts else None
        requests = Requests(store, people, conversations, pages, metrics, typing, accounts)
        seal = envelopes.seal_reply if envelopes is not None else routing.no_seal
        aside = Aside(requests, commands, metrics, seal)
        directory = Directory(commands)
        rates = Rates(Limiter(commands, "".join(seals.keys_of(s.cluster_secret)[:1]).encode()), per_minute(s))
        pushes = (
            Pushes(
                commands,
                store,
                people,
                conversations,
                _sender(s),
                metrics,
                lambda: [*worker.partitions, *filter(None, (worker.alarm_partition,))],
                after_s=s.push_after_s,
                per_s=s.pushes_per_s,
                counted_members=s.counted_members_max,
            )
            if s.push != "off"
            else None
        )
        audit = Audit(
            store,
            commands,
            metrics,
            lambda: worker.partitions,
            lambda: delivery.is_store_away,
            every_s=s.ledger_every_s,
            window_s=s.ledger_s,
            max_mb=s.ledger_max_mb,
            partitions=s.partitions,
            settle_s=s.ledger_settle_s,
            share=s.ledger_share,
        )
        traces = Traces(store, conversations, commands, audit, metrics)
        delivery = Delivery(
            store,
            people,
            directory,
            commands,
            Sayings(conversations, requests, aside, metrics, partitions=s.partitions, traces=traces),
            metrics,
            rates,
            anonymity,
            envelopes,
            pushes,
            tracing,
        )
        tallies = Tallies(store, commands, metrics)
        broadcasts = Broadcasts(store, directory, commands, tallies, rates, metrics, pushes)
        metrics.parked.set_function(lambda: delivery.parked + broadcasts.parked)
        metrics.unaccounted.set_function(lambda: audit.unaccounted)
        metrics.abandoned.set_function(lambda: audit.abandoned)
        metrics.in_flight.set_function(lambda: audit.in_flight)
        metrics.audit_behind_s.set_function(lambda: audit.behind_s)
        metrics.store_away.set_function(lambda: delivery.is_store_away or broadcasts.is_store_away)
        bill = getattr(opened, "bill", None)
        if isinstance(bill, Bill):  # who keeps a file is charged for nothing
            metrics.store_documents.set_function(
                lambda: {"read": bill.reads, "written": bill.writes, "deleted": bill.deletes}
            )
        worker = Worker(
            commands,
            reader,
            delivery,
            broadcasts,
            store,
            metrics,
            router=router,
            partitions=s.partitions,
            read_entries=s.read_entries,
            linger_s=s.linger_ms / 1000,
            parked_frames_max=s.parked_frames_max,
            receipt_gather_s=s.receipt_gather_s,
            receipt_rest_s=s.receipt_rest_s,
            envelopes=envelopes,
            notes=lambda: Notes(s.counted_members_max) if s.ledger_s else None,
        )
        moves = Moves(store, directory, commands, metrics, lambda: worker.alarm_partition)
        retention = Retention(
            store, metrics, lambda: worker.owns(0), days=s.retention_days, every_s=s.retention_every_s
        )
        reporter = Reporter(commands, router, OwnFigures(router, metrics, errors))
        watch = Watch(commands, router, surrender, lambda: worker.sights, lambda: store.busy_s, period_s=s.canary_s)
        checks = {"broker": lambda: worker.problem, "canary": lambda: watch.problem}
        internal = health.internal_app(registry, checks)
        async with (
            health.serve(internal, s.internal_host, s.internal_port, "INTERNAL_PORT") as port,
            asyncio.TaskGroup() as tasks,
        ):
            lifecycle.settle_memory()
            log.info("started", internal_port=port, partitions=s.partitions, store=s.store, file_limit=file_limit)
            running = (worker, aside, tallies, traces, audit, moves, retention, reporter, watch, accounts, pushes)
            working = [tasks.create_task(work.run()) for work in running if work is not None]
            working += [tasks.create_task(one.follow()) for one in (commands, reader)]
            await stop.wait()
            log.info("draining")
            await worker.drain()
            await lifecycle.cancel(working)
            await reporter.forget()
        surrender.complete()
        log.info("stopped")


def _accounts(s: RouterSettings, commands: Broker, metrics: RouterMetrics) -> Accounts:
    """Firebase's, and what is void is revoked by way of the partition that answers for its user."""
    from services.router.firebase import FirebaseIdentity  # noqa: PLC0415 - takes most of a second, for Firebase alone

    async def revoke(user_id: str, valid_after_ms: int) -> None:
        frame = Revoke(Origin("", ""), user_id, valid_after_ms - 1000)
        partition = names.partition_of_user(user_id, s.partitions)
        for command in producer.entries(partition, [frame]):
            await commands.command(*command)

    return Accounts(FirebaseIdentity(s.firebase_project_id, is_emulated=s.auth == "firebase-emulator"), revoke, metrics)


def _sender(s: RouterSettings) -> Sender:
    if s.push == "log":
        return LogSender()
    from services.router.firebase import FirebaseSender  # noqa: PLC0415 - takes most of a second, for Firebase alone

    return FirebaseSender(s.firebase_project_id, s.fcm_url)


@asynccontextmanager
async def _store(s: RouterSettings, stop: asyncio.Event) -> AsyncIterator[Store]:
    """The store, as soon as it can be opened. Raises `Stopped` when told to stop before."""
    async with AsyncExitStack() as stack:
        store: Store | None = None
        while store is None:
            if stop.is_set():
                raise lifecycle.Stopped
            try:
                store = await stack.enter_async_context(_opening(s))
            except StoreAway as error:
                log.warning("waiting for the store", error=str(error))
                await asyncio.sleep(_STORE_WAIT_S)
        yield store


def _opening(s: RouterSettings) -> AbstractAsyncContextManager[Store]:
    if s.store == "sqlite":
        return open_store(s.sqlite_path, patience_s=s.store_patience_s)
    # Here, for Google's libraries take a second and 50 MB, of which a router on SQLite needs nothing.
    from services.router import firestore  # noqa: PLC0415

    return firestore.open_store(place_of(s), limits_of(s), broadcast_days=s.broadcast_days)
