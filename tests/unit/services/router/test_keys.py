"""Who may take whose keys, and when an owner hears that they run out."""

import json
from typing import Any

import pytest

from libs.wire.codes import Code, Refusal
from libs.wire.events import KeyBundle, PreKey, SignedPreKey
from libs.wire.frames import Answer, Origin, PublishKeys, TakeKeys
from services.router import keys
from services.router.people import People
from services.router.routing import ToSession, ToUsers
from services.router.store import Outcome, Published, StoreAway, TakenKeys, User
from tests.unit.services.router.fakes import FakeStore

_ORIGIN = Origin("g1", "socket", 4)
_SIGNED = SignedPreKey(1, "signed", "signature")
_BUNDLE = KeyBundle("phone", "identity", _SIGNED, [PreKey(7, "key")])


async def take(store: FakeStore, user_id: str = "rama", owner_id: str = "sita") -> list[Any]:
    frame = TakeKeys(_ORIGIN, user_id, owner_id, "g1:1")
    return list(await keys.take(store, People(store, 5.0), 3, frame))


def answered(saying: Any) -> Any:
    """The acknowledgement that a saying is."""
    assert isinstance(saying, ToSession)
    assert isinstance(saying.frame, Answer)
    assert (saying.partition, saying.gateway, saying.frame.session, saying.frame.ack) == (3, "g1", "socket", 4)
    return json.loads(saying.frame.body)


async def test_who_published_hears_how_many_keys_are_left(store: FakeStore) -> None:
    """The bundle goes to the store as it came, under the name of the request."""
    store.published = Published(Outcome.KEPT, 12)
    (said,) = await keys.publish(store, 3, PublishKeys(_ORIGIN, "rama", _BUNDLE, "g1:1"))
    assert answered(said) == {"ok": True, "deviceId": "phone", "remaining": 12}
    ((*asked, at_ms),) = store.keys_asked
    assert asked == ["rama", _BUNDLE, "g1:1"]
    assert isinstance(at_ms, int)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.DEVICE_TAKEN, Code.DEVICE_TAKEN),
        (Outcome.TOO_MANY_DEVICES, Code.TOO_MANY),
        (Outcome.TOO_MANY_KEYS, Code.TOO_MANY),
        (Outcome.KEY_CHANGED, Code.INVALID_KEYS),
    ],
)
async def test_what_the_directory_does_not_keep_is_refused(store: FakeStore, outcome: Outcome, code: Code) -> None:
    """Each with the code that says what to change."""
    store.published = Published(outcome)
    with pytest.raises(Refusal) as refused:
        await keys.publish(store, 3, PublishKeys(_ORIGIN, "rama", _BUNDLE, "g1:1"))
    assert refused.value.code is code


async def test_keys_are_handed_out_and_the_owner_is_told_of_each_device_that_runs_low(store: FakeStore) -> None:
    """Fewer than ten are low; a device that has none to give is still given out."""
    store.taken = [
        TakenKeys("a", "identity-a", _SIGNED, PreKey(7, "key"), 10),
        TakenKeys("b", "identity-b", _SIGNED, PreKey(8, "key"), 9),
        TakenKeys("c", "identity-c", _SIGNED, None, 0),
    ]
    said, *low = await take(store)
    found = answered(said)
    assert (found["ok"], found["userId"]) == (True, "sita")
    assert [device["oneTimePreKey"] for device in found["devices"]] == [
        {"keyId": 7, "publicKey": "key"},
        {"keyId": 8, "publicKey": "key"},
        None,
    ]
    assert found["devices"][0]["signedPreKey"] == {"keyId": 1, "publicKey": "signed", "signature": "signature"}
    assert low == [
        ToUsers(3, ("sita",), "keys_low", b'{"deviceId":"b","remaining":9}'),
        ToUsers(3, ("sita",), "keys_low", b'{"deviceId":"c","remaining":0}'),
    ]


@pytest.mark.parametrize(
    ("user_id", "owner_id", "code"),
    [
        ("rama", "nobody", Code.RECIPIENT_NOT_FOUND),
        ("rama", "gone", Code.RECIPIENT_NOT_FOUND),
        ("rama", "ravi", Code.BLOCKED),
        ("ravi", "rama", Code.BLOCKED),
    ],
)
async def test_keys_are_for_those_who_may_write(store: FakeStore, user_id: str, owner_id: str, code: Code) -> None:
    """To anybody else none is handed out."""
    store.people["gone"] = User("gone", "Gone", disabled=True)
    with pytest.raises(Refusal) as refused:
        await take(store, user_id, owner_id)
    assert refused.value.code is code
    assert "take_keys" not in store.asked


async def test_keys_of_ones_own_devices_are_handed_out(store: FakeStore) -> None:
    """So that one's other devices can read what one writes."""
    assert answered((await take(store, "rama", "rama"))[0])["devices"] == []


@pytest.mark.parametrize("away", ["users", "take_keys"])
async def test_a_store_that_is_away_is_told(store: FakeStore, away: str) -> None:
    """`Requests` makes it `unavailable`."""
    store.away = {away}
    with pytest.raises(StoreAway):
        await take(store)
