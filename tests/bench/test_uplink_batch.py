"""From a gateway's queue to the broker: the producer's batch, up to the commands it hands over."""

import asyncio
from typing import Any

import pytest

from libs.streams.producer import Producer
from libs.wire import names
from libs.wire.events import Draft
from libs.wire.frames import Origin, Send, Sender


class Takes:
    """A broker that takes everything."""

    is_cluster = False

    async def batch(self, commands: list[Any]) -> list[Any]:
        return [b"1-1"] * len(commands)


@pytest.mark.benchmark(group="producer, 20 frames over 16 partitions")
def test_flush_of_twenty_messages(benchmark: Any) -> None:
    """What a gateway writes in one flush under load."""
    producer = Producer(Takes(), limit=1000, linger_s=0)  # type: ignore[arg-type]
    items = []
    for n in range(20):
        conversation_id = names.direct(f"a{n}", f"b{n}")
        draft = Draft(conversation_id, f"client{n}", "", "text", "గ్రామ సభ రేపు ఉదయం")
        frame = Send(Origin("g1", f"session{n}", n), Sender(f"a{n}", "Asha", "member"), draft, 1000)
        items.append((names.partition_of(conversation_id, 16), frame))
    with asyncio.Runner() as runner:
        benchmark(lambda: runner.run(producer._flush(list(items))))
