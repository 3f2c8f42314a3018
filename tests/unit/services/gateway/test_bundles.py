"""A key bundle that others could not use is refused before it costs them anything."""

from base64 import b64encode, urlsafe_b64encode
from typing import Any

import msgspec
import pytest

from libs.wire.codes import Code, Refusal
from libs.wire.events import KeyBundle
from services.gateway import bundles
from tests.support.e2ee import Device

_GOOD = Device("asha", "phone").bundle(fresh=2)
_OTHER = Device("asha", "phone").bundle(fresh=1)
# Bytes whose two spellings differ.
_HIGH = bytes([0xFB]) * 32


def check(**changed: Any) -> None:
    bundles.check(msgspec.convert(_GOOD | changed, KeyBundle))


def test_good_keys_pass() -> None:
    """With one-time keys, and without."""
    check()
    check(oneTimePreKeys=[])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"identityKey": ""}, "identityKey is not 32 bytes"),
        ({"identityKey": "ключ"}, "identityKey is not 32 bytes"),
        ({"identityKey": b64encode(bytes(31)).decode()}, "identityKey is not 32 bytes"),
        ({"identityKey": _GOOD["identityKey"].rstrip("=")}, "identityKey is not 32 bytes"),
        ({"identityKey": _GOOD["identityKey"] + "\n"}, "identityKey is not 32 bytes"),
        ({"identityKey": urlsafe_b64encode(_HIGH).decode()}, "identityKey is not 32 bytes"),
        ({"identityKey": b64encode(bytes(32)).decode()[:-2] + "B="}, "identityKey is not 32 bytes"),
        ({"identityKey": _OTHER["identityKey"]}, "signature is not the identityKey's"),
        ({"identityKey": b64encode(b"\xff" * 32).decode()}, "signature is not the identityKey's"),
        ({"signedPreKey": _GOOD["signedPreKey"] | {"publicKey": "x"}}, "signedPreKey.publicKey is not 32"),
        ({"signedPreKey": _GOOD["signedPreKey"] | {"signature": "x"}}, "signedPreKey.signature is not 64"),
        ({"signedPreKey": _OTHER["signedPreKey"]}, "signature is not the identityKey's"),
        ({"oneTimePreKeys": [{"keyId": 9, "publicKey": "AAAA"}]}, "one-time key 9 is not 32"),
        ({"oneTimePreKeys": _GOOD["oneTimePreKeys"] + _OTHER["oneTimePreKeys"]}, "keyId 1 twice"),
    ],
)
def test_bad_keys_are_named(changed: dict[str, Any], says: str) -> None:
    """Whoever writes an app learns which key is wrong, and never reads it back."""
    with pytest.raises(Refusal, match="invalid_keys") as refused:
        check(**changed)
    assert says in refused.value.message


@pytest.mark.parametrize("device_id", ["", "two words", "a:b", "d" * 129])
def test_a_device_has_an_id(device_id: str) -> None:
    """As users and groups have."""
    with pytest.raises(Refusal) as refused:
        check(deviceId=device_id)
    assert refused.value.code is Code.INVALID_PAYLOAD


def test_a_hundred_keys_are_the_most() -> None:
    """They are counted before they are read."""
    check(oneTimePreKeys=Device("asha", "phone").bundle(fresh=100)["oneTimePreKeys"])
    with pytest.raises(Refusal, match="too_many") as refused:
        check(oneTimePreKeys=[{"keyId": 1, "publicKey": ""}] * 101)
    assert "101" in refused.value.message
