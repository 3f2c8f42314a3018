"""The composition root of presence: read top to bottom."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from libs import broker, lifecycle, settings
from libs.directory import Directory
from libs.figures import PresenceFigures, Reporter
from libs.identity import issuers, seals
from libs.operators import Operators
from libs.storage import StoreAway
from libs.storage.firestore.bill import Bill
from libs.storage.firestore.settings import limits_of, place_of
from libs.telemetry import health, logs, vitals
from services.presence import http
from services.presence.announcer import Announcer
from services.presence.cold import Cold
from services.presence.lastseen import LastSeen
from services.presence.metrics import PresenceMetrics
from services.presence.reaper import Reaper
from services.presence.servers import Servers
from services.presence.settings import PresenceSettings
from services.presence.sqlite import open_last_seen
from services.presence.unsaved import Unsaved

log = structlog.get_logger(__name__)

# A store that is busy when presence starts is asked again this often.
_STORE_WAIT_S: Final = 0.5


async def main(stop: asyncio.Event) -> None:
    """Run presence until `stop` is set."""
    s = settings.load(PresenceSettings)
    presence = f"{s.presence_id}-{secrets.token_hex(4)}"
    errors = logs.configure("presence", presence, s.log_level)
    file_limit = lifecycle.raise_file_limit()
    registry = CollectorRegistry()
    metrics = PresenceMetrics(registry)
    async with (
        broker.connect(s.redis_url) as commands,
        _store(s, stop) as store,
        issuers.open_issuer(s) as issuer,
    ):
        await broker.wait_until_usable(commands, stop)
        reaper = Reaper(commands, Directory(commands), metrics, downlink_max_entries=s.downlink_max_entries)
        cold = Cold(store, metrics)
        bill = getattr(store, "bill", None)
        if isinstance(bill, Bill):  # who keeps a file is charged for nothing
            metrics.store_documents.set_function(
                lambda: {"read": bill.reads, "written": bill.writes, "deleted": bill.deletes}
            )
        metrics.process.watch(errors, (commands,))
        servers = Servers(commands, metrics)
        announcer = Announcer(commands, cold, metrics)
        unsaved = Unsaved(commands, store, metrics, lambda: announcer.shards)
        reporter = Reporter(commands, presence, lambda: own_figures(presence, errors))
        internal = health.internal_app(
            registry, {"broker": lambda: reaper.problem, "announcer": lambda: announcer.problem}
        )
        operators = Operators(seals.keys_of(s.admin_token), http.RoleClaims(issuer).role_of)
        http.add_operators(internal, operators, commands, store)
        async with (
            health.serve(internal, s.internal_host, s.internal_port, "INTERNAL_PORT") as port,
            asyncio.TaskGroup() as tasks,
        ):
            lifecycle.settle_memory()
            log.info("started", internal_port=port, file_limit=file_limit)
            running = (reaper, announcer, cold, unsaved, servers, reporter, issuer)
            working = [tasks.create_task(work.run()) for work in running]
            working.append(tasks.create_task(commands.follow()))
            await stop.wait()
            await lifecycle.cancel(working)
            await reporter.forget()
        log.info("stopped")


@asynccontextmanager
async def _store(s: PresenceSettings, stop: asyncio.Event) -> AsyncIterator[LastSeen]:
    """The store, as soon as it can be opened. Raises `Stopped` when told to stop before."""
    async with AsyncExitStack() as stack:
        store: LastSeen | None = None
        while store is None:
            if stop.is_set():
                raise lifecycle.Stopped
            try:
                store = await stack.enter_async_context(_opening(s))
            except StoreAway as error:
                log.warning("waiting for the store", error=str(error))
                await asyncio.sleep(_STORE_WAIT_S)
        yield store


def _opening(s: PresenceSettings) -> AbstractAsyncContextManager[LastSeen]:
    if s.store == "sqlite":
        return open_last_seen(s.presence_sqlite_path, patience_s=s.store_patience_s)
    # Here, for Google's libraries take a second and 50 MB, of which presence on SQLite needs nothing.
    from services.presence import firestore  # noqa: PLC0415

    return firestore.open_last_seen(place_of(s), limits_of(s))


def own_figures(presence: str, errors: logs.ErrorCount) -> PresenceFigures:
    """What this copy says of itself, for operators' `GET /status`."""
    return PresenceFigures(
        id=presence,
        pid=os.getpid(),
        uptime_seconds=vitals.uptime_s(),
        memory_bytes=vitals.memory_bytes(),
        errors=errors.lines,
    )
