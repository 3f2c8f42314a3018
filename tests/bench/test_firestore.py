"""What a message costs this process on its way into Firestore: batches of 100 through a channel that answers at once.

Goal: 40 µs of CPU a message, all told: its document, its words, its share of a commit and of the call. The
channel is Google's own, to a server in another process that takes bytes and says yes.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from concurrent import futures
from multiprocessing.connection import Connection
from typing import Any, Final

import grpc
import pytest
from google.cloud.firestore_v1.types import firestore as calls

from libs.storage.firestore.settings import Limits, Place
from libs.wire import names
from services.router.firestore import documents, open_store
from services.router.store import Message

_BATCH: Final = 100
_BATCHES: Final = 30
_CONTENT: Final = "భూమి హక్కు మనది: the survey of plot 12/3 is on Monday, bring the papers and come early"


def _message(number: int) -> Message:
    where = names.direct(f"user{number % 20}", "sita")
    key = names.message_key(f"user{number % 20}", f"c{number}")
    return Message(
        id=names.message_id_of(key, where),
        key=key,
        conversation_id=where,
        seq=number + 1,
        sender_id=f"user{number % 20}",
        sender_name="Someone",
        sender_role="member",
        type="text",
        content=f"{_CONTENT} {number}",
        client_id=f"c{number}",
        client_message_id=f"c{number}",
        timestamp_ms=1_800_000_000_000 + number,
        server_time_ms=1_800_000_000_000 + number,
    )


def test_encoding_a_message(benchmark: Any) -> None:
    """Fields, words and bytes of one document."""
    messages = [_message(number) for number in range(_BATCH)]

    def encode() -> None:
        for message in messages:
            documents.message_write("projects/p/databases/d/documents/messages/m", message)

    benchmark(encode)


def test_saving_messages(benchmark: Any, stub: str) -> None:
    """CPU of this process for each message saved, over batches of 100."""

    async def save() -> float:
        async with open_store(Place("demo", emulator=stub), Limits(patience_s=30.0, writes_per_s=0)) as store:
            messages = [_message(number) for number in range(_BATCH * (_BATCHES + 1))]
            await store.save(messages[:_BATCH])
            began = time.process_time()
            for start in range(_BATCH, len(messages), _BATCH):
                await store.save(messages[start : start + _BATCH])
            return (time.process_time() - began) / (_BATCH * _BATCHES)

    cost_s = benchmark.pedantic(lambda: asyncio.run(save()), rounds=1, iterations=1)
    print(f"\n{cost_s * 1e6:.1f} µs of CPU a message saved")  # noqa: T201 - what a bench is for


@pytest.fixture
def stub() -> Iterator[str]:
    """The address of a server that finds nothing and commits everything."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    yield f"127.0.0.1:{here.recv()}"
    process.kill()
    process.join()


def _serve(there: "Connection[int, int]") -> None:
    request, response = calls.CommitRequest.pb(), calls.CommitResponse.pb()

    def commit(given: bytes, _: object) -> bytes:
        answer = response()
        answer.commit_time.seconds = 1
        for _write in request.FromString(given).writes:
            answer.write_results.add().update_time.seconds = 1
        return bytes(answer.SerializeToString())

    handlers = {
        "Commit": grpc.unary_unary_rpc_method_handler(commit),
        "BatchGetDocuments": grpc.unary_stream_rpc_method_handler(lambda *_: iter(())),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("google.firestore.v1.Firestore", handlers),))
    there.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()
