"""The key directory in Firestore: a document for each device, with the one-time keys that are free.

One that was handed out leaves it, and has a document of its own: a repeated request is given the same one, and a
device that publishes it again does not bring it back.
"""

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

from libs.storage.firestore import values
from libs.storage.firestore.client import Client, Conflict
from libs.storage.firestore.ids import derived
from libs.storage.firestore.query import Query
from libs.storage.firestore.values import Found
from libs.wire.events import KeyBundle, PreKey, SignedPreKey
from services.router.firestore import documents
from services.router.firestore.documents import DEVICES, TAKEN_KEYS
from services.router.store import Outcome, Published, StoreAway, TakenKeys
from services.router.store.keys import MAX_DEVICES, MAX_KEPT_KEYS, REMEMBERED_PUBLICATIONS, SILENT_DEVICE_MS

_NAMED: Final = 30
_TRIES: Final = 20
_PAUSE_S: Final = 0.05


class Keys:
    """`store.Keys`."""

    _client: Client
    # Who ask for keys of one user come by one router: they take turns here, and not at a document's version.
    _turns: WeakValueDictionary[str, asyncio.Lock]

    async def publish_keys(self, user_id: str, bundle: KeyBundle, request: str, now_ms: int) -> Published:
        name = self._client.name(DEVICES, derived(bundle.device_id))
        for _ in range(_TRIES):
            device = (await self._client.get([name])).get(name)
            judged = await self._judge(device, user_id, bundle, request, now_ms)
            if isinstance(judged, Published):
                return judged
            free, gone = judged
            requests = [*(_requests(device) if device else ()), request][-REMEMBERED_PUBLICATIONS:]
            fields = {
                "deviceId": bundle.device_id,
                "userId": user_id,
                "identityKey": bundle.identity_key,
                "signedPreKey": _signed_fields(bundle.signed_pre_key),
                "free": {str(key_id): key for key_id, key in free.items()},
                "requests": requests,
                "publishedAtMs": now_ms,
            }
            version, is_there = (device.updated, None) if device else (None, False)
            writes = [values.put(name, fields, if_version=version, if_there=is_there)]
            if gone is not None:
                writes.append(values.delete(self._client.name(DEVICES, gone.id), if_version=gone.updated))
            try:
                await self._client.commit(writes, deletes=len(writes) - 1)
            except Conflict:
                await asyncio.sleep(random.uniform(0, _PAUSE_S))  # noqa: S311 - so that one of two is first
                continue
            return Published(Outcome.KEPT, len(free))
        raise StoreAway("a device was written by others each time")

    async def take_keys(self, owner_id: str, request: str) -> list[TakenKeys]:
        query = Query(collection=DEVICES, where=(("userId", "==", owner_id),))
        async with self._turns.setdefault(owner_id, asyncio.Lock()):
            devices = await self._client.query(query)
            taken = await asyncio.gather(*(self._take(device, request) for device in devices))
        return sorted((one for one in taken if one is not None), key=lambda one: one.device_id)

    async def _judge(
        self, device: Found | None, user_id: str, bundle: KeyBundle, request: str, now_ms: int
    ) -> Published | tuple[dict[int, str], Found | None]:
        """What becomes of a publication; or the keys that are free with it, and a silent device that gives way."""
        gone: Found | None = None
        if device is None:
            has_room, gone = await self._room(user_id, now_ms)
            if not has_room:
                return Published(Outcome.TOO_MANY_DEVICES)
        elif documents.text(device.fields, "userId") != user_id:
            return Published(Outcome.DEVICE_TAKEN)
        elif request in _requests(device):
            return Published(Outcome.KEPT, len(_free(device)))
        is_same = device is not None and documents.text(device.fields, "identityKey") == bundle.identity_key
        free = _free(device) if device is not None and is_same else {}
        offered = {key.key_id: key.public_key for key in bundle.one_time_pre_keys}
        unknown = [key_id for key_id in offered if key_id not in free]
        handed_out = await self._handed_out(_epoch(bundle.device_id, user_id, bundle.identity_key), unknown)
        there = free | handed_out
        if any(there.get(key_id, key) != key for key_id, key in offered.items()):
            return Published(Outcome.KEY_CHANGED)
        free |= {key_id: key for key_id, key in offered.items() if key_id not in there}
        return Published(Outcome.TOO_MANY_KEYS) if len(free) > MAX_KEPT_KEYS else (free, gone)

    async def _room(self, user_id: str, now_ms: int) -> tuple[bool, Found | None]:
        """Whether the user may have another device, and the one that has long been silent and gives way to it."""
        query = Query(collection=DEVICES, where=(("userId", "==", user_id),), only=("publishedAtMs",))
        devices = await self._client.query(query)
        if len(devices) < MAX_DEVICES:
            return True, None
        oldest = min(devices, key=lambda one: documents.number(one.fields, "publishedAtMs"))
        is_silent = documents.number(oldest.fields, "publishedAtMs") <= now_ms - SILENT_DEVICE_MS
        return is_silent, oldest if is_silent else None

    async def _handed_out(self, epoch: str, key_ids: Sequence[int]) -> dict[int, str]:
        """Those of these keys that somebody has."""
        parts = [tuple(key_ids[start : start + _NAMED]) for start in range(0, len(key_ids), _NAMED)]
        queries = [
            Query(collection=TAKEN_KEYS, where=(("epoch", "==", epoch), ("keyId", "in", part))) for part in parts
        ]
        found = [one for page in await asyncio.gather(*map(self._client.query, queries)) for one in page]
        return {documents.number(one.fields, "keyId"): documents.text(one.fields, "publicKey") for one in found}

    async def _take(self, device: Found | None, request: str) -> TakenKeys | None:
        """A device's keys; None if it is gone."""
        for _ in range(_TRIES):
            if device is None:
                return None
            fields, free = device.fields, _free(device)
            epoch = _epoch(*(documents.text(fields, each) for each in ("deviceId", "userId", "identityKey")))
            taking = self._client.name(TAKEN_KEYS, derived(epoch, request))
            before = (await self._client.get([taking])).get(taking)
            if before is not None:
                taken = documents.number(before.fields, "keyId"), documents.text(before.fields, "publicKey")
                return _keys(fields, taken, len(free))
            if not free:
                return _keys(fields, None, 0)
            key_id = min(free)
            name = self._client.name(DEVICES, device.id)
            left = {str(each): key for each, key in free.items() if each != key_id}
            writes = [
                values.put(name, {"free": left}, only=("free",), if_version=device.updated),
                values.create(taking, {"epoch": epoch, "keyId": key_id, "publicKey": free[key_id]}),
            ]
            try:
                await self._client.commit(writes)
            except Conflict:
                await asyncio.sleep(random.uniform(0, _PAUSE_S))  # noqa: S311 - so that one of two is first
                device = (await self._client.get([name])).get(name)
                continue
            return _keys(fields, (key_id, free[key_id]), len(left))
        raise StoreAway("a device's keys were taken by others each time")


def _epoch(device_id: str, user_id: str, identity_key: str) -> str:
    """One-time keys belong to an identity."""
    return derived(device_id, user_id, identity_key)


def _requests(device: Found) -> Collection[str]:
    return [each for each in documents.items(device.fields, "requests") if isinstance(each, str)]


def _free(device: Found) -> dict[int, str]:
    given = device.fields.get("free")
    return {int(key_id): key for key_id, key in given.items()} if isinstance(given, Mapping) else {}


def _signed_fields(key: SignedPreKey) -> dict[str, Any]:
    return {"keyId": key.key_id, "publicKey": key.public_key, "signature": key.signature}


def _keys(fields: Mapping[str, Any], taken: tuple[int, str] | None, remaining: int) -> TakenKeys:
    signed = fields.get("signedPreKey")
    signed = signed if isinstance(signed, Mapping) else {}
    return TakenKeys(
        documents.text(fields, "deviceId"),
        documents.text(fields, "identityKey"),
        SignedPreKey(
            documents.number(signed, "keyId"), documents.text(signed, "publicKey"), documents.text(signed, "signature")
        ),
        None if taken is None else PreKey(*taken),
        remaining,
    )
