"""What one socket is told: its acknowledgement, and the events that go with it. Pure."""

from msgspec import Struct

from libs.wire import payloads
from libs.wire.codes import Refusal
from libs.wire.frames import Answer, Origin
from services.router.routing import Saying, ToSession


def accepted(partition: int, origin: Origin, body: Struct, *emits: tuple[str, bytes]) -> Saying:
    """Yes: `body` with `ok: true`, and events."""
    answer = payloads.encode(body) if isinstance(body, payloads.Ok) else payloads.accepted_with(body)
    return ToSession(partition, origin.gateway, Answer(origin.session, origin.ack, answer, emits))


def refused(partition: int, origin: Origin, refusal: Refusal, *emits: tuple[str, bytes]) -> Saying:
    """No, with the code, and the event that says it to those who wait for no acknowledgement."""
    body = payloads.encode(payloads.refused(refusal))
    return ToSession(partition, origin.gateway, Answer(origin.session, origin.ack, body, emits))
