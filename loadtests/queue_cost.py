"""What a queue on a stream costs with a consumer group, and without one. See docs/adr/0001.

    python -m loadtests.queue_cost --entries 20000 --batch 50

Starts an embedded broker with an append-only file in a folder that it removes, fills a stream, and empties
it in batches both ways, in turn, three times each:

    group     XREADGROUP >, then one pipeline of XACK (all ids) and XTRIM MINID
    plain     XREAD from the last id, then XTRIM MINID
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from libs import broker as brokers
from libs.broker import Broker
from libs.streams import consumer
from loadtests.processes import cpu_s
from services.local.broker import broker, find_server, url
from services.local.cluster import open_cluster
from services.local.ports import free

_HOST: Final = "127.0.0.1"
_STREAM: Final = "queue"
_GROUP: Final = "group"
_ENTRY: Final = b"x" * 400
_ROUNDS: Final = 3


async def measure(entries: int, batch: int, home: Path) -> dict[str, list[tuple[float, float]]]:
    """Microseconds an entry, (client, broker), for each way and round."""
    port = free(1, _HOST, start=25_000)[0]
    process = broker(find_server(), home, port, dict(os.environ))
    found: dict[str, list[tuple[float, float]]] = {"group": [], "plain": []}
    async with open_cluster(home, [process]) as cluster:
        await cluster.start(process.name)
        await cluster.wait_ready(process.name, 10)
        async with brokers.connect(url(port)) as client:
            for _ in range(_ROUNDS):
                for way, empty in (("group", _empty_group), ("plain", _empty_plain)):
                    await _fill(client, entries)
                    own, servers = time.process_time(), sum(cpu_s(cluster).values())
                    await empty(client, entries, batch)
                    took = (time.process_time() - own, sum(cpu_s(cluster).values()) - servers)
                    found[way].append((took[0] / entries * 1e6, took[1] / entries * 1e6))
    return found


async def _fill(client: Broker, entries: int) -> None:
    await client.command("DEL", _STREAM)
    await client.command("XGROUP", "CREATE", _STREAM, _GROUP, "0", "MKSTREAM")
    for start in range(0, entries, 500):
        await client.batch([("XADD", _STREAM, "*", "f", _ENTRY)] * min(500, entries - start))


async def _empty_group(client: Broker, entries: int, batch: int) -> None:
    done = 0
    while done < entries:
        reply = await client.command("XREADGROUP", "GROUP", _GROUP, "one", "COUNT", batch, "STREAMS", _STREAM, ">")
        ids = _ids(reply)
        await client.batch(
            [("XACK", _STREAM, _GROUP, *ids), ("XTRIM", _STREAM, "MINID", "=", consumer.after(ids[-1].decode()))]
        )
        done += len(ids)


async def _empty_plain(client: Broker, entries: int, batch: int) -> None:
    done, position = 0, consumer.BEGINNING
    while done < entries:
        ids = _ids(await client.command("XREAD", "COUNT", batch, "STREAMS", _STREAM, position))
        position = ids[-1].decode()
        await client.command("XTRIM", _STREAM, "MINID", "=", consumer.after(position))
        done += len(ids)


def _ids(reply: object) -> list[bytes]:
    streams = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]  # type: ignore[index]
    entries = streams[0] if streams and isinstance(streams[0], list) else streams
    return [entry_id for entry_id, _ in entries]


def main() -> None:
    """Read the arguments, measure, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=20_000, help="entries a round (default 20000)")
    parser.add_argument("--batch", type=int, default=50, help="entries a read (default 50)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="talowa-") as folder:
        found = asyncio.run(measure(given.entries, given.batch, Path(folder)))
    lines = ["| µs an entry, median of 3 | client | broker |", "|---|---|---|"]
    for way, rounds in found.items():
        client, server = (statistics.median(column) for column in zip(*rounds, strict=True))
        lines.append(f"| {way} | {client:.1f} | {server:.1f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
