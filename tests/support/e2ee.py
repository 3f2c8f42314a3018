"""A reference for app developers: both ends of a high-security message, as `docs/e2ee.md` describes them.

The constants and the layout are the page's. A `Device` holds the private keys, which never leave it; all that a
server sees is what `bundle` and `seal` return.
"""

import hashlib
from base64 import b64decode, b64encode
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

_CONTEXT: Final = b"talowa-e2ee-1"
_KEY_BYTES: Final = 32
# Every key encrypts one thing only, so a nonce has nothing to tell apart.
_NONCE: Final = bytes(12)


class Untrusted(Exception):
    """What came is not what its sender sealed for this device. The message says why."""


class Wrapped(Struct, rename="camel", frozen=True):
    """The content key for one device, and which of its keys it was wrapped for."""

    device_id: str
    signed_pre_key_id: int
    one_time_pre_key_id: int | None
    key: str


class Header(Struct, rename="camel", frozen=True):
    """What is said in the open, and signed. A server that moves it to another message is found out."""

    sender_id: str
    sender_device_id: str
    conversation_id: str
    client_id: str
    ephemeral_key: str
    recipients: list[Wrapped]


class Device:
    """One phone: its private keys, and the seals it makes and opens."""

    def __init__(self, user_id: str, device_id: str) -> None:
        self.user_id = user_id
        self.device_id = device_id
        self._identity = Ed25519PrivateKey.generate()
        self._signed_pre_keys = {1: X25519PrivateKey.generate()}
        self._one_time_keys: dict[int, X25519PrivateKey] = {}
        self._next_key_id = 1

    @property
    def identity_key(self) -> str:
        """The public half, which others compare with what they have seen before."""
        return _text(self._identity.public_key().public_bytes_raw())

    def bundle(self, fresh: int = 10) -> dict[str, Any]:
        """The payload of `publish_keys`, with `fresh` new one-time keys. A keyId is never used twice."""
        added = range(self._next_key_id, self._next_key_id + fresh)
        self._next_key_id += fresh
        self._one_time_keys.update((key_id, X25519PrivateKey.generate()) for key_id in added)
        newest = max(self._signed_pre_keys)
        signed = self._signed_pre_keys[newest].public_key().public_bytes_raw()
        return {
            "deviceId": self.device_id,
            "identityKey": self.identity_key,
            "signedPreKey": {
                "keyId": newest,
                "publicKey": _text(signed),
                "signature": _text(self._identity.sign(signed)),
            },
            "oneTimePreKeys": [
                {"keyId": key_id, "publicKey": _text(self._one_time_keys[key_id].public_key().public_bytes_raw())}
                for key_id in added
            ],
        }

    def seal(self, text: str, conversation_id: str, client_id: str, devices: list[dict[str, Any]]) -> str:
        """The `content` that only these devices can read: `devices` as `get_keys` answers. Raises `Untrusted`."""
        content_key = ChaCha20Poly1305.generate_key()
        ephemeral = X25519PrivateKey.generate()
        header = Header(
            self.user_id,
            self.device_id,
            conversation_id,
            client_id,
            _text(ephemeral.public_key().public_bytes_raw()),
            [_wrap(content_key, ephemeral, device) for device in devices],
        )
        said = msgspec.json.encode(header)
        sealed = ChaCha20Poly1305(content_key).encrypt(_NONCE, text.encode(), said)
        signature = self._identity.sign(_signed_part(said, sealed))
        return ".".join(map(_text, (said, sealed, signature)))

    def open(self, message: dict[str, Any], sender_devices: list[dict[str, Any]]) -> str:
        """The text of a `new_message`; `sender_devices` are the keys we hold of its sender. Raises `Untrusted`.

        The one-time key it was sealed for is forgotten: nobody can open that message again, so keep its text.
        """
        said, sealed, signature = map(b64decode, message["content"].split("."))
        header = msgspec.json.decode(said, type=Header)
        identities = {device["deviceId"]: device["identityKey"] for device in sender_devices}
        if header.sender_device_id not in identities:
            raise Untrusted("the sender has no such device")
        identity = Ed25519PublicKey.from_public_bytes(b64decode(identities[header.sender_device_id]))
        try:
            identity.verify(signature, _signed_part(said, sealed))
        except InvalidSignature as error:
            raise Untrusted("the signature is not the sender's") from error
        claimed = (header.sender_id, header.conversation_id, header.client_id)
        if claimed != (message["senderId"], message["conversationId"], message["clientId"]):
            raise Untrusted("it was sealed for another message")
        wrapped = next((each for each in header.recipients if each.device_id == self.device_id), None)
        if wrapped is None:
            raise Untrusted("it was not sealed for this device")
        text = ChaCha20Poly1305(self._unwrap(header, wrapped)).decrypt(_NONCE, sealed, said).decode()
        if wrapped.one_time_pre_key_id is not None:
            del self._one_time_keys[wrapped.one_time_pre_key_id]
        return text

    def _unwrap(self, header: Header, wrapped: Wrapped) -> bytes:
        theirs = X25519PublicKey.from_public_bytes(b64decode(header.ephemeral_key))
        mine = self._signed_pre_keys[wrapped.signed_pre_key_id]
        secrets = mine.exchange(theirs)
        if wrapped.one_time_pre_key_id is not None:
            one_time = self._one_time_keys.get(wrapped.one_time_pre_key_id)
            if one_time is None:
                raise Untrusted("its one-time key is used or unknown")
            secrets += one_time.exchange(theirs)
        key = _wrapping_key(secrets, self.device_id, theirs, mine.public_key())
        return ChaCha20Poly1305(key).decrypt(_NONCE, b64decode(wrapped.key), None)


def _wrap(content_key: bytes, ephemeral: X25519PrivateKey, device: dict[str, Any]) -> Wrapped:
    signed, one_time = device["signedPreKey"], device["oneTimePreKey"]
    public = b64decode(signed["publicKey"])
    identity = Ed25519PublicKey.from_public_bytes(b64decode(device["identityKey"]))
    try:
        identity.verify(b64decode(signed["signature"]), public)
    except InvalidSignature as error:
        raise Untrusted("a signed key is not its owner's") from error
    theirs = X25519PublicKey.from_public_bytes(public)
    secrets = ephemeral.exchange(theirs)
    if one_time is not None:
        secrets += ephemeral.exchange(X25519PublicKey.from_public_bytes(b64decode(one_time["publicKey"])))
    key = _wrapping_key(secrets, device["deviceId"], ephemeral.public_key(), theirs)
    wrapped = ChaCha20Poly1305(key).encrypt(_NONCE, content_key, None)
    return Wrapped(device["deviceId"], signed["keyId"], one_time["keyId"] if one_time else None, _text(wrapped))


def _wrapping_key(secrets: bytes, device_id: str, ephemeral: X25519PublicKey, signed: X25519PublicKey) -> bytes:
    info = b"".join([_CONTEXT, ephemeral.public_bytes_raw(), signed.public_bytes_raw(), device_id.encode()])
    return HKDF(SHA256(), _KEY_BYTES, salt=None, info=info).derive(secrets)


def _signed_part(said: bytes, sealed: bytes) -> bytes:
    return _CONTEXT + hashlib.sha256(said).digest() + hashlib.sha256(sealed).digest()


def _text(data: bytes) -> str:
    return b64encode(data).decode()
