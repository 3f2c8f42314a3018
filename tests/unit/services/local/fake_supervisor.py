"""Runs one fake service until it is killed: `fake_supervisor.py HOME PORT`."""

import asyncio
import sys
from pathlib import Path

from services.local.cluster import open_cluster
from tests.unit.services.local.fakes import fake


async def _main(home: Path, port: int) -> None:
    async with open_cluster(home, [fake("g1", port)]) as cluster:
        await cluster.start("g1")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
