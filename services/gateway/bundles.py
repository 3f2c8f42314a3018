"""Is this a key bundle that others can use? Pure, and asked before it costs anybody else anything.

Keys are 32 bytes, signatures 64, both in the one base64 spelling they have (`+`, `/`, padding).
"""

from base64 import b64decode, b64encode
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from libs.wire import names
from libs.wire.codes import Code, Refusal
from libs.wire.events import KeyBundle

MAX_ONE_TIME_KEYS: Final = 100
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64


def check(bundle: KeyBundle) -> None:
    """Raises `Refusal`, which names the key that is wrong."""
    if not names.is_id(bundle.device_id):
        raise Refusal(Code.INVALID_PAYLOAD, "deviceId has 1 to 128 characters and no colon or white space.")
    offered = bundle.one_time_pre_keys
    if len(offered) > MAX_ONE_TIME_KEYS:
        raise Refusal(Code.TOO_MANY, f"oneTimePreKeys has {len(offered)} keys; {MAX_ONE_TIME_KEYS} are the most.")
    identity = _bytes(bundle.identity_key, _KEY_BYTES, "identityKey")
    signed = _bytes(bundle.signed_pre_key.public_key, _KEY_BYTES, "signedPreKey.publicKey")
    signature = _bytes(bundle.signed_pre_key.signature, _SIGNATURE_BYTES, "signedPreKey.signature")
    seen: set[int] = set()
    for key in offered:
        if key.key_id in seen:
            raise Refusal(Code.INVALID_KEYS, f"oneTimePreKeys has the keyId {key.key_id} twice.")
        seen.add(key.key_id)
        _bytes(key.public_key, _KEY_BYTES, f"The publicKey of the one-time key {key.key_id}")
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, signed)
    except InvalidSignature as error:
        raise Refusal(
            Code.INVALID_KEYS, "signedPreKey.signature is not the identityKey's, over the bytes of publicKey."
        ) from error


def _bytes(text: str, length: int, what: str) -> bytes:
    try:
        found = b64decode(text, validate=True)
    except ValueError:
        found = b""
    # Another spelling of the same bytes would make one key two.
    if len(found) != length or b64encode(found).decode() != text:
        raise Refusal(Code.INVALID_KEYS, f"{what} is not {length} bytes in base64.")
    return found
