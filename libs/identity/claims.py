"""What a verified token says."""

from msgspec import Struct


class Claims(Struct, array_like=True, frozen=True):
    """A token that was checked: whose it is, until when, and when its sign-in happened.

    Times are milliseconds since 1970. `role` is the token's custom claim; where there is none, the
    user's document says.
    """

    user_id: str
    issued_at_ms: int
    expires_at_ms: int
    role: str | None = None
