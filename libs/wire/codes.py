"""Every refusal a client can meet: its code, its words, and whether to try again.

`retryable` says: the same request, unchanged, may succeed later. A client that gets a code with
`retryable: false` must change something first (a fresh token, a shorter text, another recipient).
"""

from enum import StrEnum


class Code(StrEnum):
    """A refusal's stable name. Clients switch on it; it is never renamed or reused."""

    # signing in
    TOKEN_MISSING = "token_missing"
    TOKEN_INVALID = "token_invalid"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_REVOKED = "token_revoked"
    USER_NOT_FOUND = "user_not_found"
    USER_DISABLED = "user_disabled"
    NOT_AUTHENTICATED = "not_authenticated"
    # the shape of what was sent
    MALFORMED = "malformed"
    UNKNOWN_EVENT = "unknown_event"
    INVALID_PAYLOAD = "invalid_payload"
    UNKNOWN_TYPE = "unknown_type"
    EMPTY_CONTENT = "empty_content"
    CONTENT_TOO_LARGE = "content_too_large"
    CLIENT_ID_MISSING = "client_id_missing"
    CLIENT_ID_TOO_LONG = "client_id_too_long"
    BINARY_NOT_ACCEPTED = "binary_not_accepted"
    TOO_MANY = "too_many"
    UNKNOWN_LEVEL = "unknown_level"
    NO_PLACES = "no_places"
    QUERY_TOO_SHORT = "query_too_short"
    INVALID_KEYS = "invalid_keys"
    # permission
    ACCESS_DENIED = "access_denied"
    RECIPIENT_NOT_FOUND = "recipient_not_found"
    BLOCKED = "blocked"
    ROLE_REQUIRED = "role_required"
    DEVICE_TAKEN = "device_taken"
    NOT_FOUND = "not_found"
    # anonymous messages
    ANONYMOUS_UNAVAILABLE = "anonymous_unavailable"
    IDENTITY_EXPOSED = "identity_exposed"
    NO_REPLY = "no_reply"
    # too much at once
    RATE_LIMITED = "rate_limited"
    # the cluster's own state
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


_RETRYABLE = frozenset({Code.RATE_LIMITED, Code.UNAVAILABLE, Code.OVERLOADED, Code.INTERNAL})

_WORDS: dict[Code, str] = {
    Code.TOKEN_MISSING: "No token was given. Send {token} or {resumeTicket}.",
    Code.TOKEN_INVALID: "The token is not valid here. Sign in again to get a new one.",
    Code.TOKEN_EXPIRED: "The token has expired. Get a fresh one and try again.",
    Code.TOKEN_REVOKED: "This sign-in was revoked. Sign in again.",
    Code.USER_NOT_FOUND: "There is no such user.",
    Code.USER_DISABLED: "This account is disabled.",
    Code.NOT_AUTHENTICATED: "Sign in first: send `authenticate` with a token.",
    Code.MALFORMED: "The packet is not a valid Socket.IO packet with a JSON payload.",
    Code.UNKNOWN_EVENT: "There is no event of this name.",
    Code.INVALID_PAYLOAD: "The payload does not have the shape this event needs.",
    Code.UNKNOWN_TYPE: "The message type is not one of text, image, document, voice, location, emergency.",
    Code.EMPTY_CONTENT: "The message has no content.",
    Code.CONTENT_TOO_LARGE: "The content is over 16 KiB.",
    Code.CLIENT_ID_MISSING: "The message has no clientId, so sending it again could not be recognised.",
    Code.CLIENT_ID_TOO_LONG: "The clientId is over 128 characters.",
    Code.BINARY_NOT_ACCEPTED: "Binary payloads are not accepted. Send JSON text.",
    Code.ACCESS_DENIED: "You may not do this in this conversation, or it does not exist.",
    Code.RECIPIENT_NOT_FOUND: "The recipient does not exist.",
    Code.TOO_MANY: "The list is longer than this request takes.",
    Code.UNKNOWN_LEVEL: "locationLevel is one of state, district, mandal, village.",
    Code.NO_PLACES: "Say for which places: locationIds is empty.",
    Code.QUERY_TOO_SHORT: "The query has fewer than two letters.",
    Code.INVALID_KEYS: "The keys are not valid.",
    Code.BLOCKED: "One of you has blocked the other.",
    Code.ROLE_REQUIRED: "Only a coordinator, admin or founder may do this.",
    Code.DEVICE_TAKEN: "This deviceId is another user's. Choose another one.",
    Code.NOT_FOUND: "There is no such thing here.",
    Code.ANONYMOUS_UNAVAILABLE: "Anonymous messages are not offered here; nothing was sent.",
    Code.IDENTITY_EXPOSED: "What goes with this message names its sender. Nothing was sent.",
    Code.NO_REPLY: "Nobody can answer an anonymous message.",
    Code.RATE_LIMITED: "That is too much at once. Try again a little later.",
    Code.UNAVAILABLE: "The service cannot take this right now. Try again.",
    Code.OVERLOADED: "The service is behind. Try again a little later.",
    Code.INTERNAL: "Something went wrong on our side. Try again.",
}


def is_retryable(code: Code) -> bool:
    """Whether the same request may succeed later without being changed."""
    return code in _RETRYABLE


def words(code: Code) -> str:
    """The sentence a person may be shown for `code`."""
    return _WORDS[code]


class Refusal(Exception):
    """A request that was not accepted. Raised where it is decided, answered at the edge.

    `message` defaults to the code's own words; a more exact one never holds message content.
    """

    def __init__(self, code: Code, message: str | None = None, retry_after_ms: int | None = None) -> None:
        self.code = code
        self.message = message or words(code)
        self.retry_after_ms = retry_after_ms
        super().__init__(code.value)
