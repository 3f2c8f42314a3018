"""The reference for app developers: what is sealed for a device is read by that device, and by no other."""

from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidTag

from libs.wire.events import KeyBundle
from services.gateway import bundles
from tests.support.e2ee import Device, Untrusted

_TEXT = "భూమి మాది"
_PLACE = "direct:asha:bala"


def keys_of(device: Device, *, one_time: bool = True) -> dict[str, Any]:
    """What `get_keys` hands out of a device that has published."""
    bundle = device.bundle(fresh=1)
    (key,) = bundle.pop("oneTimePreKeys")
    return bundle | {"oneTimePreKey": key if one_time else None}


def carried(content: str) -> dict[str, Any]:
    """A `new_message` with this content."""
    return {"content": content, "senderId": "asha", "conversationId": _PLACE, "clientId": "c1"}


@pytest.mark.parametrize("one_time", [True, False])
def test_what_is_sealed_for_a_device_is_read_there_and_nowhere_else(one_time: bool) -> None:
    """With a one-time key, and without when there is none left; on each of several devices."""
    asha, phone, tablet, stranger = Device("asha", "a"), Device("bala", "p"), Device("bala", "t"), Device("x", "s")
    content = asha.seal(_TEXT, _PLACE, "c1", [keys_of(phone, one_time=one_time), keys_of(tablet, one_time=one_time)])
    assert _TEXT not in content
    sender = [keys_of(asha)]
    assert phone.open(carried(content), sender) == tablet.open(carried(content), sender) == _TEXT
    with pytest.raises(Untrusted, match="not sealed for this device"):
        stranger.open(carried(content), sender)


def test_a_one_time_key_opens_one_message() -> None:
    """Whoever gets hold of the phone later cannot read what was said before."""
    asha, bala = Device("asha", "a"), Device("bala", "p")
    message = carried(asha.seal(_TEXT, _PLACE, "c1", [keys_of(bala)]))
    sender = [keys_of(asha)]
    bala.open(message, sender)
    with pytest.raises(Untrusted, match="one-time key"):
        bala.open(message, sender)


@pytest.mark.parametrize("field", ["senderId", "conversationId", "clientId"])
def test_a_message_that_was_moved_is_found_out(field: str) -> None:
    """A server cannot pass it off as another person's, in another conversation, or again."""
    asha, bala = Device("asha", "a"), Device("bala", "p")
    message = carried(asha.seal(_TEXT, _PLACE, "c1", [keys_of(bala)]))
    with pytest.raises(Untrusted, match="another message"):
        bala.open(message | {field: "other"}, [keys_of(asha)])


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_message_that_was_changed_is_found_out(part: int) -> None:
    """Header, ciphertext or signature: each is under the signature."""
    asha, bala, other = Device("asha", "a"), Device("bala", "p"), Device("asha", "a")
    keys = keys_of(bala)
    parts = asha.seal(_TEXT, _PLACE, "c1", [keys]).split(".")
    parts[part] = other.seal("Something else", _PLACE, "c1", [keys]).split(".")[part]
    with pytest.raises((Untrusted, InvalidTag)):
        bala.open(carried(".".join(parts)), [keys_of(asha)])


def test_keys_that_were_swapped_are_not_sealed_for() -> None:
    """A server that puts a key of its own into the directory cannot sign it."""
    asha, bala, mallory = Device("asha", "a"), Device("bala", "p"), Device("mallory", "m")
    keys = keys_of(bala) | {"signedPreKey": keys_of(mallory)["signedPreKey"]}
    with pytest.raises(Untrusted, match="not its owner's"):
        asha.seal(_TEXT, _PLACE, "c1", [keys])
    message = carried(asha.seal(_TEXT, _PLACE, "c1", [keys_of(bala)]))
    with pytest.raises(Untrusted, match="no such device"):
        bala.open(message, [keys_of(mallory)])


def test_a_bundle_is_one_that_the_gateway_takes() -> None:
    """Key ids rise from one bundle to the next."""
    device = Device("asha", "a")
    for _ in range(2):
        bundles.check(msgspec.convert(device.bundle(), KeyBundle))
    ids = [key["keyId"] for key in device.bundle()["oneTimePreKeys"]]
    assert ids == list(range(21, 31))
