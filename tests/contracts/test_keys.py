"""What every store promises of the key directory: who may publish, and that a one-time key goes to one request."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Sequence
from itertools import count

import pytest

from libs.wire.events import KeyBundle, PreKey, SignedPreKey
from services.router.store import Outcome, Published, Store, StoreAway
from services.router.store.keys import MAX_DEVICES, MAX_KEPT_KEYS, REMEMBERED_PUBLICATIONS, SILENT_DEVICE_MS
from tests.contracts.conftest import Record

NOW_MS = 1_800_000_000_000
_numbers = count()


@pytest.fixture
async def store(record: Record) -> AsyncIterator[Store]:
    """One store on the record."""
    async with record.open() as opened:
        yield opened


def bundle(device_id: str = "phone", keys: Sequence[int] = (), *, identity: str = "id-1", signed: int = 1) -> KeyBundle:
    """A bundle whose keys are told apart by their names; a store reads none of them."""
    signed_key = SignedPreKey(signed, f"signed-{signed}", "signature")
    return KeyBundle(device_id, identity, signed_key, [PreKey(key, f"{identity}/key-{key}") for key in keys])


async def publish(
    store: Store, given: KeyBundle, user_id: str = "bala", *, request: str | None = None, now_ms: int = NOW_MS
) -> Published:
    return await store.publish_keys(user_id, given, request or f"g1:p{next(_numbers)}", now_ms)


async def take(store: Store, request: str | None = None) -> list[tuple[str, int | None, int]]:
    """Device, key id and what remains, for every device of bala."""
    taken = await store.take_keys("bala", request or f"g1:t{next(_numbers)}")
    return [
        (one.device_id, one.one_time_pre_key.key_id if one.one_time_pre_key else None, one.remaining) for one in taken
    ]


async def test_what_was_published_is_handed_out_field_by_field(record: Record) -> None:
    """In another process, all devices by their ids, and nobody else's."""
    async with record.open() as store:
        assert await publish(store, bundle("tablet", [7, 8])) == Published(Outcome.KEPT, 2)
        assert await publish(store, bundle("phone", signed=3)) == Published(Outcome.KEPT, 0)
        await publish(store, bundle("other", [1]), "asha")
    async with record.open() as store:
        phone, tablet = await store.take_keys("bala", "t1")
    assert (phone.device_id, phone.one_time_pre_key, phone.remaining) == ("phone", None, 0)
    assert phone.signed_pre_key == SignedPreKey(3, "signed-3", "signature")
    assert (tablet.identity_key, tablet.one_time_pre_key) == ("id-1", PreKey(7, "id-1/key-7"))
    assert tablet.remaining == 1


async def test_nobody_has_keys_who_published_none(store: Store) -> None:
    """No error: they have no device to write to."""
    assert await store.take_keys("bala", "t1") == []


async def test_publishing_again_replaces_the_signed_key_and_adds_keys(store: Store) -> None:
    """Keys that are there already are the same keys."""
    await publish(store, bundle(keys=[1, 2]))
    assert await publish(store, bundle(keys=[2, 3], signed=2)) == Published(Outcome.KEPT, 3)
    (taken,) = await store.take_keys("bala", "t1")
    assert taken.signed_pre_key.key_id == 2
    assert taken.one_time_pre_key == PreKey(1, "id-1/key-1")


async def test_a_key_with_the_id_of_another_one_is_refused(store: Store) -> None:
    """Whether that one is still there or was handed out; and nothing of the bundle is kept."""
    await publish(store, bundle(keys=[1, 2]))
    await take(store)
    for key_id in (1, 2):
        changed = KeyBundle("phone", "id-1", SignedPreKey(9, "signed-9", "s"), [PreKey(key_id, "x"), PreKey(5, "y")])
        assert await publish(store, changed) == Published(Outcome.KEY_CHANGED)
    (taken,) = await store.take_keys("bala", "t2")
    assert (taken.signed_pre_key.key_id, taken.remaining) == (1, 0)


async def test_another_identity_begins_without_one_time_keys(store: Store) -> None:
    """The old ones are of a phone that was set up anew: nobody can read what is sealed for them."""
    await publish(store, bundle(keys=[1, 2, 3]))
    assert await publish(store, bundle(keys=[1, 2], identity="id-2")) == Published(Outcome.KEPT, 2)
    (taken,) = await store.take_keys("bala", "t1")
    assert (taken.identity_key, taken.one_time_pre_key) == ("id-2", PreKey(1, "id-2/key-1"))


async def test_a_key_goes_to_one_request_and_a_repeated_request_gets_the_same(store: Store) -> None:
    """A router that reads a request again hands out nothing more; one more request gets the next key."""
    await publish(store, bundle(keys=[1, 2]))
    assert await take(store, "t1") == [("phone", 1, 1)]
    assert await take(store, "t2") == [("phone", 2, 0)]
    assert await take(store, "t1") == [("phone", 1, 0)]
    assert await take(store, "t3") == [("phone", None, 0)]


async def test_many_who_ask_at_once_have_a_key_each(store: Store) -> None:
    """A router that takes over is asked by all who waited: none of them is told to come again."""
    await publish(store, bundle(keys=range(1, 61)))
    taken = await asyncio.gather(*(take(store, f"t{number}") for number in range(50)))
    assert sorted(key for ((_, key, _),) in taken if key is not None) == list(range(1, 51))


async def test_a_key_that_was_handed_out_does_not_come_back(store: Store) -> None:
    """Published again by a device that does not know, in a request of its own or one that is read again."""
    await publish(store, bundle(keys=[1, 2]), request="p1")
    await take(store)
    assert await publish(store, bundle(keys=[1, 2])) == Published(Outcome.KEPT, 1)
    assert await publish(store, bundle(keys=[1, 2]), request="p1") == Published(Outcome.KEPT, 1)
    assert await take(store) == [("phone", 2, 0)]


async def test_a_publication_that_is_read_again_undoes_no_later_one(store: Store) -> None:
    """A router that was paused, or one that reads a stream from its beginning, writes no old identity."""
    await publish(store, bundle(keys=[1]), request="p1")
    await publish(store, bundle(keys=[1, 2], identity="id-2"), request="p2")
    for number in range(REMEMBERED_PUBLICATIONS - 2):
        await publish(store, bundle(identity="id-2", signed=number))
    assert await publish(store, bundle(keys=[1]), request="p1") == Published(Outcome.KEPT, 2)
    (taken,) = await store.take_keys("bala", "t1")
    assert taken.identity_key == "id-2"


async def test_a_device_is_its_first_users(store: Store) -> None:
    """Nobody puts keys under the device of somebody else."""
    await publish(store, bundle(keys=[1]))
    assert await publish(store, bundle(keys=[2]), "mallory") == Published(Outcome.DEVICE_TAKEN)
    assert await store.take_keys("mallory", "t1") == []
    assert await take(store) == [("phone", 1, 0)]


async def test_a_device_keeps_no_more_than_the_bound(store: Store) -> None:
    """All of a bundle or nothing; keys that are there already count once."""
    for first in range(0, MAX_KEPT_KEYS, 100):
        await publish(store, bundle(keys=range(first, first + 100)))
    assert await publish(store, bundle(keys=[1, MAX_KEPT_KEYS])) == Published(Outcome.TOO_MANY_KEYS)
    assert await publish(store, bundle(keys=range(100))) == Published(Outcome.KEPT, MAX_KEPT_KEYS)


async def test_a_user_has_no_more_devices_than_the_bound(store: Store) -> None:
    """Another one is refused, until the most silent has been so for a month: it gives way, with its keys."""
    for number in range(MAX_DEVICES):
        await publish(store, bundle(f"d{number:02}", [1]), now_ms=NOW_MS + number)
    later_ms = NOW_MS + SILENT_DEVICE_MS
    assert await publish(store, bundle("new"), now_ms=later_ms - 1) == Published(Outcome.TOO_MANY_DEVICES)
    assert await publish(store, bundle("d00"), now_ms=later_ms - 1) == Published(Outcome.KEPT, 1)
    assert await publish(store, bundle("new", [1]), now_ms=later_ms + 1) == Published(Outcome.KEPT, 1)
    devices = [device_id for device_id, *_ in await take(store)]
    assert devices == [f"d{number:02}" for number in range(MAX_DEVICES) if number != 1] + ["new"]
    assert await publish(store, bundle("d01"), "asha") == Published(Outcome.KEPT, 0)


async def test_keys_are_handed_out_once_by_many_processes(record: Record) -> None:
    """Two routers that take at the same time never take the same key, and none is left over."""
    async with record.open() as store:
        await publish(store, bundle(keys=range(60)))
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        asked = [pool.apply_async(_take_many, (record, f"g{number}")) for number in range(2)]
        taken = [key for result in asked for key in await asyncio.to_thread(result.get, 60)]
    assert sorted(taken) == list(range(60))


def _take_many(record: Record, gateway: str) -> list[int]:
    """In a process of its own: thirty keys."""

    async def taken() -> list[int]:
        async with record.open() as store:
            keys = [await take(store, f"{gateway}:{number}") for number in range(30)]
        return [key for ((_, key, _),) in keys if key is not None]

    return asyncio.run(taken())


async def test_a_store_that_is_away_says_so(record: Record) -> None:
    """Nothing is handed out and nothing kept."""
    async with record.open(patience_s=record.hurried_s) as store:
        await publish(store, bundle(keys=[1]))
        with record.away():
            with pytest.raises(StoreAway):
                await publish(store, bundle(keys=[2]))
            with pytest.raises(StoreAway):
                await take(store)
        assert await take(store) == [("phone", 1, 0)]
