"""What one socket is told: its acknowledgement, and the events that go with it. Pure."""

from msgspec import Struct

from libs.wire import payloads
from libs.wire.codes import Refusal
from libs.wire.frames import Answer, Canary, CanaryReply, Downlink, Origin
from services.router.anonymity import Author
from services.router.routing import Saying, ToSession, ToUsers


def accepted(partition: int, origin: Origin, body: Struct, *emits: tuple[str, bytes]) -> Saying:
    """Yes: `body` with `ok: true`, and events."""
    answer = payloads.encode(body) if isinstance(body, payloads.Ok) else payloads.accepted_with(body)
    return to_origin(partition, origin, Answer(origin.session, origin.ack, answer, emits))


def refused(partition: int, origin: Origin, refusal: Refusal, *emits: tuple[str, bytes]) -> Saying:
    """No, with the code, and the event that says it to those who wait for no acknowledgement."""
    body = payloads.encode(payloads.refused(refusal))
    return to_origin(partition, origin, Answer(origin.session, origin.ack, body, emits))


def to_origin(partition: int, origin: Origin, frame: Downlink) -> Saying:
    """A frame for the socket that asked, sealed if what it asked was."""
    return ToSession(partition, origin.gateway, frame, origin.is_sealed)


def to_author(partition: int, author: Author, event: str, body: bytes, *, skip_session: str | None = None) -> Saying:
    """An event for all devices of who wrote a message; for a hidden author it is sealed."""
    return ToUsers(partition, (author.user_id,), event, body, skip_session=skip_session, is_sealed=author.is_hidden)


def heard(partition: int, canary: Canary) -> Saying:
    """A canary, back to its gateway."""
    return to_origin(partition, canary.origin, CanaryReply(partition, canary.sent_ms))
