"""The public keys of users' devices, and one-time keys, each handed out once."""

from enum import Enum
from typing import Final, Protocol

from msgspec import Struct

from libs.wire.events import KeyBundle, PreKey, SignedPreKey

MAX_DEVICES: Final = 20
MAX_KEPT_KEYS: Final = 500
# Beyond MAX_DEVICES, the one that published longest ago gives way once it has been silent for this long.
SILENT_DEVICE_MS: Final = 30 * 24 * 3600 * 1000
# A publication that is among a device's last ones was read from the stream again: it changes nothing any more.
REMEMBERED_PUBLICATIONS: Final = 16


class Outcome(Enum):
    """What became of a publication. All but KEPT changed nothing."""

    KEPT = "kept"  # now, or by the same request before
    DEVICE_TAKEN = "device taken"  # the device is another user's
    TOO_MANY_DEVICES = "too many devices"
    TOO_MANY_KEYS = "too many keys"
    KEY_CHANGED = "key changed"  # a one-time key has the id of an earlier one, and is not that one


class Published(Struct, frozen=True):
    """`remaining` counts the one-time keys of the device that are not handed out."""

    outcome: Outcome
    remaining: int = 0


class TakenKeys(Struct, frozen=True):
    """The keys of one device, with the one-time key that was taken (None if there was none), and what remains."""

    device_id: str
    identity_key: str
    signed_pre_key: SignedPreKey
    one_time_pre_key: PreKey | None
    remaining: int


class Keys(Protocol):
    """The directory. `request` names a request, the same when it is read from the stream again."""

    async def publish_keys(self, user_id: str, bundle: KeyBundle, request: str, now_ms: int) -> Published:
        """Replace a device's identity and signed key, and add its one-time keys.

        One-time keys belong to the identity: another identity begins without any. One that was published
        before under its id is not added again, also when it was handed out since.
        """
        ...

    async def take_keys(self, owner_id: str, request: str) -> list[TakenKeys]:
        """The keys of all devices, by device id; of each, one one-time key that nobody else is given."""
        ...
