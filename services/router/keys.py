"""The public-key directory: devices publish keys, others take them to write to them in high security."""

from collections.abc import Sequence
from typing import Final

from libs.clock import now_ms
from libs.wire import payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import PublishKeys, TakeKeys
from services.router import answers, permission
from services.router.people import People
from services.router.routing import Saying, ToUsers
from services.router.store import Outcome, Store
from services.router.store.keys import MAX_DEVICES, MAX_KEPT_KEYS

# Fewer one-time keys than this: the owner's devices are told to publish more.
LOW: Final = 10

_REFUSALS: Final = {
    Outcome.DEVICE_TAKEN: (Code.DEVICE_TAKEN, None),
    Outcome.TOO_MANY_DEVICES: (Code.TOO_MANY, f"You have keys for {MAX_DEVICES} devices already, the most there are."),
    Outcome.TOO_MANY_KEYS: (Code.TOO_MANY, f"{MAX_KEPT_KEYS} one-time keys are the most that are kept for a device."),
    Outcome.KEY_CHANGED: (Code.INVALID_KEYS, "A one-time key has the keyId of another one that was published before."),
}


async def publish(store: Store, partition: int, frame: PublishKeys) -> Sequence[Saying]:
    """Keep the keys of one of the user's devices. Raises `Refusal`, `StoreAway`."""
    published = await store.publish_keys(frame.user_id, frame.bundle, frame.request, now_ms())
    if published.outcome is not Outcome.KEPT:
        raise Refusal(*_REFUSALS[published.outcome])
    body = payloads.KeysPublished(frame.bundle.device_id, published.remaining)
    return [answers.accepted(partition, frame.origin, body)]


async def take(store: Store, people: People, partition: int, frame: TakeKeys) -> Sequence[Saying]:
    """The keys of everyone's devices to whom the user may write; `keys_low` to an owner who runs out of them.

    Raises `Refusal`, `StoreAway`.
    """
    await people.load((frame.user_id, frame.owner_id), ())
    permission.check_direct(people.user(frame.user_id), people.user(frame.owner_id))
    taken = await store.take_keys(frame.owner_id, frame.request)
    devices = [
        payloads.DeviceKeys(keys.device_id, keys.identity_key, keys.signed_pre_key, keys.one_time_pre_key)
        for keys in taken
    ]
    sayings = [answers.accepted(partition, frame.origin, payloads.Keys(frame.owner_id, devices))]
    for keys in taken:
        if keys.remaining < LOW:
            low = payloads.encode(payloads.KeysLow(keys.device_id, keys.remaining))
            sayings.append(ToUsers(partition, (frame.owner_id,), "keys_low", low))
    return sayings
