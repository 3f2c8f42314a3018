"""`GET /ledger/{messageId}` and `GET /ledger`: where one message is, and sums over all, asked of the routers."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from aiohttp import web

from libs.operators import Operators
from libs.wire import names, payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Inbound, Origin, Sums, Trace
from libs.wire.traces import LedgerSums, MessageTrace
from services.gateway.questions import Questions, body_of
from services.gateway.uplink import Uplink

_LONGEST_S: Final = 24 * 3600

_sums: Final = msgspec.json.Decoder(LedgerSums)
_trace: Final = msgspec.json.Decoder(MessageTrace)


def add_routes(
    app: web.Application,
    operators: Operators,
    questions: Questions,
    uplink: Uplink,
    *,
    partitions: int,
    answer_timeout_s: float,
) -> None:
    """Serve the operators' calls about messages from an internal port."""

    async def ask(make: Callable[[Origin], Inbound], partition: int) -> bytes:
        origin = questions.origin()
        try:
            async with asyncio.timeout(answer_timeout_s):
                said = await questions.ask(
                    origin.session, lambda: uplink.publish_for_partition(partition, make(origin))
                )
        except TimeoutError as error:
            raise Refusal(Code.UNAVAILABLE) from error
        return body_of(said)

    async def get_trace(request: web.Request) -> bytes:
        message_id = request.match_info["messageId"]
        partition = names.partition_of_message(message_id, partitions)
        if partition is None:
            raise Refusal(Code.INVALID_PAYLOAD, "This is not the id of a message: 36 hex digits.")
        body = await ask(partial(Trace, message_id=message_id), partition)
        return payloads.encode(_trace.decode(body))

    async def get_sums(request: web.Request) -> bytes:
        seconds = request.query.get("seconds", "0")
        if not seconds.isdecimal() or int(seconds) > _LONGEST_S:
            raise Refusal(Code.INVALID_PAYLOAD, "seconds is a whole number, at most a day.")
        about = partial(Sums, seconds=int(seconds))
        said = await asyncio.gather(*(ask(about, partition) for partition in range(partitions)))
        sums = LedgerSums()
        for body in said:
            sums = sums.plus(_sums.decode(body))
        return payloads.encode(sums)

    app.router.add_get("/ledger/{messageId}", operators.route(get_trace))
    app.router.add_get("/ledger", operators.route(get_sums))
