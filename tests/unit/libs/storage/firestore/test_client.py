"""What Firestore's refusals and silences become: tried again, a store that is away, or a word with a remedy."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.cloud.firestore_v1.types import firestore as calls

from libs.lifecycle import Unstartable
from libs.storage import StoreAway
from libs.storage.firestore import values
from libs.storage.firestore.client import Conflict, open_client
from libs.storage.firestore.query import Query
from libs.storage.firestore.settings import Limits, Place
from tests.support.waiting import until

_LIMITS: Final = Limits(patience_s=3.0, writes_per_s=0)
_DEAD: Final = "127.0.0.1:1"
Status = tuple[grpc.StatusCode, str]
_FINE: Final[Status] = (grpc.StatusCode.OK, "")


class Firestore:
    """A server that finds nothing, and refuses as it is told: once for each status given."""

    def __init__(self) -> None:
        self.says: list[Status] = []
        self.asked = 0
        self.address = ""

    async def commit(self, request: bytes, context: Any) -> bytes:
        await self._refuse(context)
        answer = calls.CommitResponse.pb()()
        for _ in calls.CommitRequest.pb().FromString(request).writes:
            answer.write_results.add().update_time.seconds = 7
        return bytes(answer.SerializeToString())

    async def find(self, _: bytes, context: Any) -> AsyncIterator[bytes]:
        await self._refuse(context)
        nothing: tuple[bytes, ...] = ()
        for found in nothing:
            yield found

    async def _refuse(self, context: Any) -> None:
        self.asked += 1
        code, details = self.says.pop(0) if self.says else _FINE
        if code is not grpc.StatusCode.OK:
            await context.abort(code, details)


@asynccontextmanager
async def _serving() -> AsyncIterator[Firestore]:
    firestore = Firestore()
    handlers = {
        "Commit": grpc.unary_unary_rpc_method_handler(firestore.commit),
        "BatchGetDocuments": grpc.unary_stream_rpc_method_handler(firestore.find),
        "RunQuery": grpc.unary_stream_rpc_method_handler(firestore.find),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("google.firestore.v1.Firestore", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    firestore.address = f"127.0.0.1:{port}"
    yield firestore
    await server.stop(0)


def _place(firestore: Firestore) -> Place:
    return Place("talowa-test", emulator=firestore.address)


@pytest.mark.parametrize(
    ("code", "details", "remedy"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "Missing permissions.", "roles/datastore.user.*FIREBASE_PROJECT_ID"),
        (grpc.StatusCode.UNAUTHENTICATED, "Bad token.", "GOOGLE_APPLICATION_CREDENTIALS"),
        (grpc.StatusCode.NOT_FOUND, "The database (default) does not exist", "FIRESTORE_DATABASE_ID"),
    ],
)
async def test_a_refusal_at_the_start_names_the_remedy(code: grpc.StatusCode, details: str, remedy: str) -> None:
    """Waiting would not help, so the service does not start."""
    async with _serving() as firestore:
        firestore.says = [(code, details)]
        with pytest.raises(Unstartable, match=f"(?s){re.escape(details)}.*{remedy}"):
            async with open_client(_place(firestore), _LIMITS):
                pass


async def test_nobody_there_is_a_store_that_is_away() -> None:
    """It may come: the service waits for it."""
    with pytest.raises(StoreAway):
        async with open_client(Place("talowa-test", emulator=_DEAD), Limits(patience_s=0.2)):
            pass


async def test_without_credentials_it_is_said_where_they_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable's name."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(Unstartable, match="GOOGLE_APPLICATION_CREDENTIALS"):
        async with open_client(Place("talowa-test"), _LIMITS):
            pass


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
async def test_what_may_pass_is_tried_again(code: grpc.StatusCode) -> None:
    """A few times, with pauses that grow."""
    async with _serving() as firestore, open_client(_place(firestore), _LIMITS) as client:
        firestore.says = [(code, "busy")] * 3
        (version,) = await client.commit([values.delete("d")], versions_of_last=1)
        assert version.seconds == 7
        assert firestore.asked == 1 + 4


@pytest.mark.parametrize(
    ("code", "details", "remedy"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded.", "quota"),
        (grpc.StatusCode.FAILED_PRECONDITION, "The query requires an index.", "firestore.indexes.json"),
        (grpc.StatusCode.PERMISSION_DENIED, "Missing permissions.", "roles/datastore.user"),
        (grpc.StatusCode.UNAVAILABLE, "plugin failed: invalid_grant: Invalid JWT: timeframe", "clock says .*revoked"),
    ],
)
async def test_what_does_not_pass_is_a_store_that_is_away(code: grpc.StatusCode, details: str, remedy: str) -> None:
    """Nothing hangs, and what is said helps; the next call may find it mended."""
    limits = Limits(patience_s=0.3, grace_s=0.3, writes_per_s=0)
    async with _serving() as firestore, open_client(_place(firestore), limits) as client:
        firestore.says = [(code, details)] * 100
        with pytest.raises(StoreAway, match=f"(?s){re.escape(details)}.*{remedy}"):
            await client.query(Query(collection="messages"))
        firestore.says = []
        assert await client.query(Query(collection="messages")) == []


@pytest.mark.parametrize("code", [grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION])
async def test_a_condition_that_does_not_hold_is_a_conflict(code: grpc.StatusCode) -> None:
    """Told at once, and no outage."""
    async with _serving() as firestore, open_client(_place(firestore), _LIMITS) as client:
        firestore.says = [(code, "entity already exists")]
        with pytest.raises(Conflict):
            await client.commit([values.create("d", {})])
        assert not client.is_away


async def test_a_mistake_in_a_request_is_no_outage() -> None:
    """It is raised as one, or it would be tried for ever."""
    async with _serving() as firestore, open_client(_place(firestore), _LIMITS) as client:
        firestore.says = [(grpc.StatusCode.INVALID_ARGUMENT, "bad name")]
        with pytest.raises(ValueError, match="bad name"):
            await client.commit([values.delete("d")])


async def test_what_was_asked_is_counted_as_google_counts() -> None:
    """A query that finds nothing is a read, and so is a document that is not there."""
    async with _serving() as firestore, open_client(_place(firestore), _LIMITS) as client:
        before = client.bill.reads
        await client.query(Query(collection="messages"))
        await client.get([client.name("messages", "a"), client.name("messages", "b"), client.name("messages", "a")])
        await client.commit([values.create("d", {}), values.delete("e")], deletes=1)
        assert (client.bill.reads - before, client.bill.writes, client.bill.deletes) == (3, 1, 1)


async def test_a_try_that_ends_oddly_leaves_the_next_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nobody would ever find out that the store is back."""
    limits = Limits(patience_s=0.3, grace_s=0.3, writes_per_s=0)
    async with _serving() as firestore, open_client(_place(firestore), limits) as client:
        firestore.says = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")] * 100
        with pytest.raises(StoreAway):
            await client.query(Query(collection="messages"))
        firestore.says = []
        with monkeypatch.context() as broken:
            broken.setattr(client, "_headers", "no headers")
            with pytest.raises(ValueError, match="unpack"):
                await client.query(Query(collection="messages"))
        assert await client.query(Query(collection="messages")) == []


async def test_it_is_told_how_long_the_oldest_call_has_taken() -> None:
    """And nothing once all are answered, well or not."""
    limits = Limits(patience_s=0.5, grace_s=0.5, writes_per_s=0)
    async with _serving() as firestore, open_client(_place(firestore), limits) as client:
        assert client.busy_s == 0
        firestore.says = [(grpc.StatusCode.UNAVAILABLE, "busy")] * 100
        with pytest.raises(StoreAway):
            await asyncio.gather(
                client.query(Query(collection="messages")),
                until(lambda: client.busy_s > 0.1, 5, "a call that takes its time"),
            )
        assert client.busy_s == 0
