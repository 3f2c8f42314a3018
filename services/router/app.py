"""The composition root of a router: read top to bottom."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry

from libs import broker, cluster, lifecycle, settings
from libs.directory import Directory
from libs.figures import Reporter
from libs.identity import Envelopes, seals
from libs.limits import Limiter
from libs.storage.firestore.bill import Bill
from libs.storage.firestore.settings import limits_of, place_of
from libs.telemetry import health, logs
from services.router import routing
from services.router.anonymity import Anonymity
from services.router.aside import Aside
from services.router.broadcasts import Broadcasts
from services.router.conversations import Conversations
from services.router.delivery import Delivery
from services.router.due import DuePages
from services.router.figures import OwnFigures
from services.router.metrics import RouterMetrics
from services.router.moves import Moves
from services.router.people import People
from services.router.rates import Rates, per_minute
from services.router.requests import Requests
from services.router.retention import Retention
from services.router.sayings import Sayings
from services.router.settings import RouterSettings
from services.router.sqlite import open_store
from services.router.store import Store, StoreAway
from services.router.tallies import Tallies
from services.router.typing_notices import TypingNotices
from services.router.worker import BLOCK_MS, Worker

log = structlog.get_logger(__name__)


# A store that is busy or away when a router starts is asked again this often.
_STORE_WAIT_S = 0.5


async def main(stop: asyncio.Event) -> None:
    """Run a router until `stop` is set."""
    s = settings.load(RouterSettings)
    # A name of its own for every start: a lease belongs to one process, not to a place.
    router = f"{s.router_id}-{secrets.token_hex(4)}"
    errors = logs.configure("router", router, s.log_level)
    registry = CollectorRegistry()
    metrics = RouterMetrics(registry)

    async with (
        broker.connect(s.redis_url) as commands,
        broker.connect(s.redis_url, blocking_s=BLOCK_MS / 1000) as reader,
        _store(s, stop) as store,
    ):
        await broker.wait_until_usable(commands, stop)
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
        requests = Requests(store, people, conversations, pages, metrics, typing)
        seal = envelopes.seal_reply if envelopes is not None else routing.no_seal
        aside = Aside(requests, commands, metrics, seal)
        directory = Directory(commands)
        rates = Rates(Limiter(commands, s.cluster_secret.encode()), per_minute(s))
        delivery = Delivery(
            store,
            people,
            directory,
            commands,
            Sayings(conversations, requests, aside, metrics, partitions=s.partitions),
            metrics,
            rates,
            anonymity,
            envelopes,
        )
        tallies = Tallies(store, commands, metrics)
        broadcasts = Broadcasts(store, directory, commands, tallies, rates, metrics)
        metrics.parked.set_function(lambda: delivery.parked + broadcasts.parked)
        metrics.store_away.set_function(lambda: delivery.is_store_away or broadcasts.is_store_away)
        bill = getattr(store, "bill", None)
        if isinstance(bill, Bill):  # who keeps a file is charged for nothing
            metrics.store_documents.labels("read").set_function(lambda: bill.reads)
            metrics.store_documents.labels("written").set_function(lambda: bill.writes)
            metrics.store_documents.labels("deleted").set_function(lambda: bill.deletes)
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
            envelopes=envelopes,
        )
        moves = Moves(store, directory, commands, metrics, lambda: worker.alarm_partition)
        retention = Retention(
            store, metrics, lambda: worker.owns(0), days=s.retention_days, every_s=s.retention_every_s
        )
        reporter = Reporter(commands, router, OwnFigures(router, metrics, errors))
        internal = health.internal_app(registry, {"broker": lambda: worker.problem})
        async with (
            health.serve(internal, s.internal_host, s.internal_port, "INTERNAL_PORT") as port,
            asyncio.TaskGroup() as tasks,
        ):
            lifecycle.settle_memory()
            log.info("started", internal_port=port, partitions=s.partitions, store=s.store)
            running = (worker, aside, tallies, moves, retention, reporter)
            working = [tasks.create_task(work.run()) for work in running]
            await stop.wait()
            log.info("draining")
            await worker.drain()
            await lifecycle.cancel(working)
            await reporter.forget()
        log.info("stopped")


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

    return firestore.open_store(place_of(s), limits_of(s))
