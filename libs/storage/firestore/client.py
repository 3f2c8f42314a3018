"""The one file that knows Google's libraries: a channel to Firestore, and the four calls that are made on it.

Requests are bytes that `values` made, or protobuf's own messages; of google-cloud-firestore only those are used.
Troubles come out as `StoreAway`, with a remedy where there is one; who writes on a condition is told by `Conflict`.

Over 400 lines, for there is to be one such file.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import google.auth
import grpc
from google.auth.exceptions import DefaultCredentialsError
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request
from google.cloud.firestore_v1.types import firestore as calls
from google.cloud.firestore_v1.types import query as queries

from libs.lifecycle import Unstartable
from libs.storage import StoreAway
from libs.storage.firestore import values
from libs.storage.firestore.bill import Bill
from libs.storage.firestore.breaker import Breaker
from libs.storage.firestore.query import Query
from libs.storage.firestore.ramp import Ramp
from libs.storage.firestore.settings import Limits, Place
from libs.storage.firestore.values import Found, Stamp

# What one commit may hold. Firestore takes 10 MiB; what surrounds the writes has room.
COMMIT_WRITES: Final = 500
COMMIT_BYTES: Final = 8 * 1024 * 1024
# Documents to one read.
_GET_DOCUMENTS: Final = 300
_HOST: Final = "firestore.googleapis.com"
_WRITE_TRIES: Final = 8
_SCOPE: Final = "https://www.googleapis.com/auth/datastore"
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_CHANNEL: Final = (
    # A line that went dead is noticed, and one that was refused is tried again soon.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_AGAIN: Final = (grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_NO_ANSWER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_CONFLICTS: Final = (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)

_BatchWriteResponse: Final = calls.BatchWriteResponse.pb()
_CommitResponse: Final = calls.CommitResponse.pb()
_BatchGetRequest: Final = calls.BatchGetDocumentsRequest.pb()
_BatchGetResponse: Final = calls.BatchGetDocumentsResponse.pb()
_RunQueryRequest: Final = calls.RunQueryRequest.pb()
_RunQueryResponse: Final = calls.RunQueryResponse.pb()
_CountRequest: Final = calls.RunAggregationQueryRequest.pb()
_CountResponse: Final = calls.RunAggregationQueryResponse.pb()
_StructuredQuery: Final = queries.StructuredQuery.pb()
_Value: Final = type(_RunQueryResponse().document.fields[""])

_IS: Final = queries.StructuredQuery.FieldFilter.Operator
_OPERATORS: Final = {
    "==": int(_IS.EQUAL),
    "!=": int(_IS.NOT_EQUAL),
    "<": int(_IS.LESS_THAN),
    "<=": int(_IS.LESS_THAN_OR_EQUAL),
    ">": int(_IS.GREATER_THAN),
    ">=": int(_IS.GREATER_THAN_OR_EQUAL),
    "in": int(_IS.IN),
    "contains": int(_IS.ARRAY_CONTAINS),
    "contains any": int(_IS.ARRAY_CONTAINS_ANY),
}
_AND: Final = int(queries.StructuredQuery.CompositeFilter.Operator.AND)
_UP: Final = int(queries.StructuredQuery.Direction.ASCENDING)
_DOWN: Final = int(queries.StructuredQuery.Direction.DESCENDING)


_NOTHING: Final[Mapping[str, Stamp]] = {}


class Conflict(Exception):
    """A commit wrote nothing: what it was conditional on does not hold."""


class Client:
    """Calls to one database."""

    def __init__(self, channel: grpc.aio.Channel, place: Place, limits: Limits) -> None:
        self._place = place
        self._root = f"{place.path}/documents"
        self.bill = Bill()
        self._breaker = Breaker(limits.patience_s, limits.grace_s)
        self._ramp = Ramp(limits.writes_per_s)
        self._patience_s = limits.patience_s
        self._verifies = True
        self._commits = asyncio.Semaphore(limits.commits_in_flight)
        self._reads = asyncio.Semaphore(limits.reads_in_flight)
        # When calls that are not answered yet were made, the oldest first.
        self._begun: dict[object, float] = {}
        prefix = quote(place.path, safe="")
        self._headers: list[tuple[str, str]] = [
            ("google-cloud-resource-prefix", place.path),
            ("x-goog-request-params", f"database={prefix}"),
        ]
        if place.emulator is not None:
            self._headers.append(("authorization", "Bearer owner"))
        service = "/google.firestore.v1.Firestore/"
        self._commit = channel.unary_unary(service + "Commit", None, _CommitResponse.FromString)
        self._batch_write = channel.unary_unary(service + "BatchWrite", None, _BatchWriteResponse.FromString)
        self._batch_get = channel.unary_stream(
            service + "BatchGetDocuments", _BatchGetRequest.SerializeToString, _BatchGetResponse.FromString
        )
        self._run_query = channel.unary_stream(
            service + "RunQuery", _RunQueryRequest.SerializeToString, _RunQueryResponse.FromString
        )
        self._run_count = channel.unary_stream(
            service + "RunAggregationQuery", _CountRequest.SerializeToString, _CountResponse.FromString
        )

    @property
    def is_away(self) -> bool:
        """Whether Firestore counts as away."""
        return self._breaker.is_open

    @property
    def busy_s(self) -> float:
        """For how long the oldest call has been waiting for its turn or its answer; 0 if there is none."""
        began_at = next(iter(self._begun.values()), None)
        return 0.0 if began_at is None else time.monotonic() - began_at

    def name(self, collection: str, id_: str) -> str:
        """The full name of a document."""
        return f"{self._root}/{collection}/{id_}"

    async def commit(
        self,
        writes: Sequence[bytes],
        *,
        unchanged: Mapping[str, Stamp] = _NOTHING,
        deletes: int = 0,
        versions_of_last: int = 0,
    ) -> list[Stamp]:
        """Write, all or nothing; the new versions of the last few. Raises `Conflict`, `StoreAway`.

        After `StoreAway` it may have been written all the same. Documents that are to be `unchanged`, by full name,
        are in these versions then: each is a read on the bill. `deletes` of the writes are deletions.
        """
        if not self._verifies:
            return await self._commit_all([*_idle(unchanged), *writes], 0, deletes, versions_of_last)
        checks = [values.verify(name, version) for name, version in unchanged.items()]
        try:
            return await self._commit_all([*checks, *writes], len(checks), deletes, versions_of_last)
        except ValueError:
            if not checks:
                raise
        # Perhaps this database takes no `verify`: what Google publishes for servers does not have it. A write that
        # changes nothing says the same, and is paid for.
        versions = await self._commit_all([*_idle(unchanged), *writes], 0, deletes, versions_of_last)
        self._verifies = False
        return versions

    async def _commit_all(
        self, writes: Sequence[bytes], checks: int, deletes: int, versions_of_last: int
    ) -> list[Stamp]:
        request = values.commit_request(self._place.path, writes)
        with self._at_it():
            await self._ramp.pace(len(writes) - checks, self._patience_s)
            async with self._commits:
                response = await self._call(partial(self._answered, self._commit, request))
        self.bill.note(reads=checks, writes=len(writes) - checks - deletes, deletes=deletes)
        if not versions_of_last:
            return []
        found = [one.update_time for one in response.write_results[-versions_of_last:]]
        return [Stamp(one.seconds, one.nanos) for one in found]

    async def write_each(self, writes: Sequence[bytes], *, deletes: int = 0) -> list[Stamp | None]:
        """Write each for itself; its new version, None where what it is conditional on does not hold.

        Raises `StoreAway`; some may have been written then.
        """
        versions: list[Stamp | None] = [None] * len(writes)
        parts = [range(len(writes))[start : start + COMMIT_WRITES] for start in range(0, len(writes), COMMIT_WRITES)]
        with self._at_it():
            await asyncio.gather(*(self._write_each(writes, part, versions) for part in parts))
        self.bill.note(writes=sum(version is not None for version in versions) - deletes, deletes=deletes)
        return versions

    async def _write_each(self, writes: Sequence[bytes], asked: Sequence[int], versions: list[Stamp | None]) -> None:
        pause_s = _FIRST_PAUSE_S
        for _ in range(_WRITE_TRIES):
            request = values.commit_request(self._place.path, [writes[at] for at in asked])
            await self._ramp.pace(len(asked), self._patience_s)
            async with self._commits:
                response = await self._call(partial(self._answered, self._batch_write, request))
            again: list[int] = []
            for at, result, status in zip(asked, response.write_results, response.status, strict=True):
                code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
                if code is grpc.StatusCode.OK:
                    versions[at] = Stamp(result.update_time.seconds, result.update_time.nanos)
                elif code in _AGAIN:
                    again.append(at)
                elif code not in _CONFLICTS:
                    raise StoreAway(f"{code.name}: {status.message}{_remedy(code, status.message, self._place)}")
            if not again:
                return
            asked = again
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - so that not all come at once
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        raise StoreAway("documents were contended for too long")

    async def get(self, names: Collection[str], only: Sequence[str] = ()) -> dict[str, Found]:
        """The documents that exist among these full names, by name; all their fields or `only` some."""
        asked = list(dict.fromkeys(names))
        parts = [asked[start : start + _GET_DOCUMENTS] for start in range(0, len(asked), _GET_DOCUMENTS)]
        there: dict[str, Found] = {}
        with self._at_it():
            for found in await asyncio.gather(*(self._get(part, only) for part in parts)):
                there |= found
        return there

    async def query(self, query: Query) -> list[Found]:
        """What a query finds. Raises `StoreAway`."""
        return (await self.query_at(query))[0]

    async def query_at(self, query: Query) -> tuple[list[Found], Stamp]:
        """What a query finds, and as of when, by Firestore's clock. Raises `StoreAway`."""
        self.bill.shapes.add(query.shape)
        request = _RunQueryRequest(parent=self._root, structured_query=_structured(query))
        with self._at_it():
            async with self._reads:
                answers = await self._call(partial(self._streamed, self._run_query, request))
        found = [values.found(answer.document) for answer in answers if answer.HasField("document")]
        self.bill.note(reads=max(1, len(found)))
        at = answers[-1].read_time if answers else None
        return found, Stamp(at.seconds, at.nanos) if at is not None else Stamp(0, 0)

    async def page(self, collection: str, limit: int, *, after: str = "", only: Sequence[str] = ()) -> list[Found]:
        """Up to `limit` documents of a collection, by id, from beyond `after`. Raises `StoreAway`."""
        begins = (values.Reference(self.name(collection, after)),) if after else None
        return await self.query(
            Query(collection=collection, order=("__name__",), after=begins, limit=limit, only=tuple(only))
        )

    async def count(self, query: Query) -> int:
        """How many documents a query finds; a thousand cost one read. Raises `StoreAway`."""
        self.bill.shapes.add(query.shape)
        request = _CountRequest(parent=self._root)
        request.structured_aggregation_query.structured_query.CopyFrom(_structured(query))
        request.structured_aggregation_query.aggregations.add(alias="n").count.SetInParent()
        async with self._reads:
            (answer,) = await self._call(partial(self._streamed, self._run_count, request))
        counted = int(answer.result.aggregate_fields["n"].integer_value)
        self.bill.note(reads=max(1, -(-counted // 1000)))
        return counted

    async def _get(self, names: Sequence[str], only: Sequence[str]) -> dict[str, Found]:
        request = _BatchGetRequest(database=self._place.path, documents=names)
        if only:
            request.mask.field_paths.extend(only)
        async with self._reads:
            answers = await self._call(partial(self._streamed, self._batch_get, request))
        self.bill.note(reads=len(names))
        return {answer.found.name: values.found(answer.found) for answer in answers if answer.HasField("found")}

    @contextmanager
    def _at_it(self) -> Iterator[None]:
        call = object()
        self._begun[call] = time.monotonic()
        try:
            yield
        finally:
            del self._begun[call]

    async def _answered(self, call: Any, request: Any, within_s: float) -> Any:
        return await call(request, timeout=within_s, metadata=self._headers, wait_for_ready=True)

    async def _streamed(self, call: Any, request: Any, within_s: float) -> list[Any]:
        return [one async for one in call(request, timeout=within_s, metadata=self._headers, wait_for_ready=True)]

    async def _call(self, ask: Callable[[float], Any]) -> Any:
        """Ask, again where that may help, for as long as patience lasts. The one place that judges failures."""
        until = time.monotonic() + await self._breaker.enter()
        pause_s = _FIRST_PAUSE_S
        try:
            while True:
                try:
                    answer = await ask(max(until - time.monotonic(), 0.001))
                except grpc.aio.AioRpcError as error:
                    pause = random.uniform(pause_s / 2, pause_s)  # noqa: S311 - so that not all come at once
                    if error.code() not in _AGAIN or time.monotonic() + pause >= until:
                        self._judge(error)
                    await asyncio.sleep(pause)
                    pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                else:
                    self._breaker.passed()
                    return answer
        except BaseException:
            self._breaker.left()  # whatever became of it, it tries no more
            raise

    def _judge(self, error: grpc.aio.AioRpcError) -> None:
        """Raise what a failed call means."""
        code, details = error.code(), error.details() or ""
        said = f"{code.name}: {details}"
        if code in _NO_ANSWER or code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self._breaker.failed(said)
            raise StoreAway(said + _remedy(code, details, self._place)) from error
        self._breaker.passed()
        if code in _CONFLICTS and "index" not in details and "database" not in details:
            raise Conflict(details) from error
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            raise ValueError(details) from error  # a mistake in a request must not pass for an outage
        raise StoreAway(said + _remedy(code, details, self._place)) from error


@asynccontextmanager
async def open_client(place: Place, limits: Limits) -> AsyncIterator[Client]:
    """A client whose database has answered.

    Raises `StoreAway` while it does not, `Unstartable` where waiting would not help.
    """
    async with _channel(place) as channel:
        client = Client(channel, place, limits)
        try:
            await client.get([client.name("server", "check")])
        except StoreAway as error:
            cause = error.__cause__
            if isinstance(cause, grpc.aio.AioRpcError) and cause.code() not in (*_AGAIN, *_NO_ANSWER):
                raise Unstartable(f"Firestore refused {place.path}: {error}") from error
            raise
        yield client


def _channel(place: Place) -> grpc.aio.Channel:
    if place.emulator is not None:
        return grpc.aio.insecure_channel(place.emulator, options=_CHANNEL)
    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
    except DefaultCredentialsError as error:
        raise Unstartable(
            "STORE=firestore needs credentials, and none were found: set GOOGLE_APPLICATION_CREDENTIALS to the file "
            "of a service account's key, or run where Google gives them (workload identity)."
        ) from error
    plugin = AuthMetadataPlugin(credentials, Request(), default_host=_HOST)  # type: ignore[no-untyped-call]
    both = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), grpc.metadata_call_credentials(plugin))
    return grpc.aio.secure_channel(f"{_HOST}:443", both, options=_CHANNEL)


def _idle(unchanged: Mapping[str, Stamp]) -> list[bytes]:
    return [values.put(name, {}, only=(), if_version=version) for name, version in unchanged.items()]


def _remedy(code: grpc.StatusCode, details: str, place: Place) -> str:
    """What an operator can do, where the code says it."""
    match code:
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return (
                f". Give the service account of GOOGLE_APPLICATION_CREDENTIALS the role roles/datastore.user in "
                f"{place.project_id!r}, or correct FIREBASE_PROJECT_ID (or FIRESTORE_PROJECT_ID, if that is set)."
            )
        case grpc.StatusCode.NOT_FOUND:
            return (
                ". Correct FIREBASE_PROJECT_ID (or FIRESTORE_PROJECT_ID, if that is set) or FIRESTORE_DATABASE_ID, or "
                "create the database (native mode)."
            )
        case grpc.StatusCode.FAILED_PRECONDITION if "index" in details:
            return ". Deploy firestore.indexes.json: firebase deploy --only firestore:indexes."
        case grpc.StatusCode.UNAVAILABLE if (
            "invalid_grant" in details
        ):  # so do credentials that Google refuses come out
            return (
                f". This machine's clock says {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: set it right, if that is "
                "minutes off. Else give GOOGLE_APPLICATION_CREDENTIALS a key that was not revoked."
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ". Raise the quota of the project, or lower FIRESTORE_WRITES_PER_S."
        case _:
            return ""


def _structured(query: Query) -> Any:
    built = _StructuredQuery()
    built.from_.add(collection_id=query.collection)
    for field in query.only:
        built.select.fields.add(field_path=field)
    if query.where:
        built.where.composite_filter.op = _AND
    for field, how, given in query.where:
        one = built.where.composite_filter.filters.add().field_filter
        one.field.field_path = field
        one.op = _OPERATORS[how]
        one.value.ParseFromString(values.value(given))
    for field in query.order:
        one = built.order_by.add(direction=_DOWN if field.startswith("-") else _UP)
        one.field.field_path = field.removeprefix("-")
    if query.after is not None:
        built.start_at.values.extend(_Value.FromString(values.value(given)) for given in query.after)
        built.start_at.before = False
    if query.limit is not None:
        built.limit.value = query.limit
    return built
