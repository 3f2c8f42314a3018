"""What the ledger costs a message: CPU of router and broker, memory in the broker. See docs/adr/0018.

    python -m loadtests.ledger_cost --messages 10000 --batch 40

Starts an embedded broker and a SQLite store in a folder that it removes. Direct messages between users with ids as long
as Firebase's get their places, are saved, confirmed and acknowledged, in batches: with a ledger and without, in turn,
three times each. Then the ledger is compared with the store.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from libs import broker as brokers
from libs import keys
from libs.broker import Broker, Script
from libs.telemetry import vitals
from libs.wire import names
from loadtests.processes import cpu_s
from services.local.broker import broker, find_server, url
from services.local.cluster import Cluster, open_cluster
from services.local.ports import free
from services.router.audit import Audit
from services.router.ledger import Notes
from services.router.metrics import RouterMetrics
from services.router.partition import Candidate, Partition
from services.router.sqlite import SqliteStore, open_store
from services.router.store import Message

_HOST: Final = "127.0.0.1"
_ROUNDS: Final = 3
_ID_BYTES: Final = 14
_GATEWAY: Final = "gateway-1-4f2a91bc"

_lease: Final = Script("libs.streams", "lease.lua")


class Trial:
    """One broker, one store, and messages that go through both."""

    def __init__(self, cluster: Cluster, client: Broker, store: SqliteStore, batch: int) -> None:
        self._cluster = cluster
        self._client = client
        self._store = store
        self._batch = batch
        self._numbers = iter(range(1 << 40))

    async def owned(self, notes: Notes | None) -> Partition:
        """The partition, on an empty broker."""
        await self._client.command("FLUSHALL")
        call = _lease.call([keys.lease(0), keys.lease_token(0)], "r1", 3_600_000, "0")
        return Partition(0, int(await self._client.script(call)), "r1", notes)

    async def through(self, partition: Partition, messages: int) -> tuple[float, float]:
        """Send so many; CPU seconds of this process and of the broker, without the store's."""
        own = servers = 0.0
        for batch in self._batches(messages):
            for message in batch:
                partition.note_end(message.conversation_id, 0)
            began, before = time.process_time(), sum(cpu_s(self._cluster).values())
            asked = [Candidate(m.key, m.conversation_id, may=True, line=_line(partition, m)) for m in batch]
            await self._client.script(partition.order(asked, is_store_away=False))
            own += time.process_time() - began
            await self._store.save(batch)
            began = time.process_time()
            for message in batch:
                _note(partition, message)
            line = partition.notes.take_settled() if partition.notes is not None else b""
            await self._client.script(partition.acknowledge(None, batch, line=line))
            own += time.process_time() - began
            servers += sum(cpu_s(self._cluster).values()) - before
        return own, servers

    async def compared(self, partition: Partition) -> tuple[float, float, int]:
        """CPU seconds of this process (store and all) and of the broker, and how many messages were looked at."""
        metrics = RouterMetrics(CollectorRegistry())
        audit = Audit(
            self._store,
            self._client,
            metrics,
            lambda: [partition],
            lambda: False,
            every_s=1.0,
            window_s=3900,
            max_mb=1024,
            partitions=16,
            settle_s=0,
            share=1.0,
        )
        began, before = time.process_time(), sum(cpu_s(self._cluster).values())
        while await audit.turn():
            pass
        servers = sum(cpu_s(self._cluster).values()) - before
        return time.process_time() - began, servers, int(vitals.total(metrics.audited))

    async def bytes_(self) -> int:
        """What the ledger takes in the broker."""
        return int(await self._client.command("MEMORY", "USAGE", keys.ledger(0), "SAMPLES", 0))

    def _batches(self, messages: int) -> Iterator[list[Message]]:
        for _ in range(0, messages, self._batch):
            yield [_message(next(self._numbers)) for _ in range(self._batch)]


def _message(number: int) -> Message:
    one, other = secrets.token_hex(_ID_BYTES), secrets.token_hex(_ID_BYTES)
    where, client_id = names.direct(one, other), f"c{number}"
    names.direct_pair(where)  # found out before, by whoever decided
    key = names.message_key(one, client_id)
    at_ms = time.time_ns() // 1_000_000
    return Message(
        names.message_id_of(key, where), key, where, 1, one, "Asha", "member", "text", "x", client_id, "", at_ms, at_ms
    )


def _line(partition: Partition, message: Message) -> bytes:
    if partition.notes is None:
        return b""
    return partition.notes.placed(message.key, message.conversation_id, None, is_anonymous=False)


def _note(partition: Partition, message: Message) -> None:
    if partition.notes is not None:
        at = message.server_time_ms
        times = {"took_ms": at, "read_ms": at + 5, "saved_ms": at + 40, "published_ms": at + 43}
        partition.notes.done(message, _GATEWAY, **times, told=1)
        partition.notes.confirmed(message, ("",), _GATEWAY, at + 110)


async def measure(messages: int, batch: int, home: Path) -> list[str]:
    """The lines of a table."""
    port = free(1, _HOST, start=25_000)[0]
    process = broker(find_server(), home, port, dict(os.environ))
    found: dict[str, list[tuple[float, float]]] = {"without": [], "with": [], "compared": []}
    sizes: list[float] = []
    async with open_cluster(home, [process]) as cluster, open_store(home / "store.db", patience_s=30) as store:
        await cluster.start(process.name)
        await cluster.wait_ready(process.name, 10)
        async with brokers.connect(url(port)) as client:
            trial = Trial(cluster, client, store, batch)
            for _ in range(_ROUNDS):
                for way, notes in (("without", None), ("with", Notes(200))):
                    partition = await trial.owned(notes)
                    own, servers = await trial.through(partition, messages)
                    found[way].append((own / messages * 1e6, servers / messages * 1e6))
                sizes.append(await trial.bytes_() / messages)
                own, servers, looked_at = await trial.compared(partition)
                found["compared"].append((own / looked_at * 1e6, servers / looked_at * 1e6))
    lines = [f"| µs a message, in batches of {batch}, median of {_ROUNDS} | router | broker |", "|---|---|---|"]
    for way, rounds in found.items():
        client_us, server_us = (statistics.median(column) for column in zip(*rounds, strict=True))
        lines.append(f"| {way} | {client_us:.1f} | {server_us:.1f} |")
    return [*lines, f"\n{statistics.median(sizes):.0f} bytes a message in the broker"]


def main() -> None:
    """Read the arguments, measure, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000, help="messages a round (default 10000)")
    parser.add_argument("--batch", type=int, default=40, help="messages a batch (default 40)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="talowa-") as folder:
        lines = asyncio.run(measure(given.messages, given.batch, Path(folder)))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
