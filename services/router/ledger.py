"""What the ledger says of messages: lines on a stream of each partition. No I/O, no content, no author.

Two hands write it, in steps that nothing can take apart from what they record. `order.lua` enters each message that it
gives a place (`Placed`, and the `Roll` of the group's members it is for); `acknowledge.lua` what became of a batch, as
it takes it off the stream (`Settled`). Neither knows the other's lines: `audit.py` compares both with the store.

What would tell who wrote anonymously is in no line. The gateway that took such a message is not named, nor the time by
its clock, nor those through which its conversation is confirmed. In a group it is for all members, its author among
them: who they are is not written down for it, nor who confirmed it when, for a phone that is there while others are
away would stand out.
"""

import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from libs.wire import names
from services.router.store import Message

# The field of a `Settled`. Lines of `order.lua` are fields themselves, with the seq of a `Placed` as value.
SETTLED: Final = b"s"
# No gateway is named.
NOWHERE: Final = -1
# Nobody counted to how many a message was said: it was replayed, or its group changed meanwhile.
UNCOUNTED: Final = -1
# The members of a group are written down again after this, so that every message in the window finds them.
ROLL_AGAIN_S: Final = 300.0
_ROLLS: Final = 4096
_DIGEST_BYTES: Final = 6


class Placed(Struct, array_like=True, frozen=True, tag="p"):
    """A message has a place. `roll` names the `Roll` of whom it is for: b"" in a direct or very large conversation,
    and where it is anonymous."""

    key: bytes
    conversation_id: str
    recipients: int
    roll: bytes = b""


class Roll(Struct, array_like=True, frozen=True, tag="r"):
    """The members of a group, as the router knew them."""

    digest: bytes
    members: tuple[str, ...]


class Done(Struct, array_like=True, frozen=True):
    """A message went through its stations, at these milliseconds after its gateway took it (`base_ms` + `took`).

    `save` is None where an owner before had saved it. `told` is to how many it was said.
    """

    key: bytes
    told: int
    took: int
    read: int
    save: int | None
    publish: int
    gateway: int = NOWHERE


class Confirmed(Struct, array_like=True, frozen=True):
    """Devices of these users have a message; in a direct conversation it is the other one, who is not named."""

    key: bytes
    users: tuple[str, ...]
    at: int
    gateway: int = NOWHERE


class Settled(Struct, array_like=True, frozen=True):
    """What came of the batches that one acknowledgement took off the stream. Times are relative to `base_ms`."""

    base_ms: int
    gateways: tuple[str, ...] = ()
    done: tuple[Done, ...] = ()
    confirmed: tuple[Confirmed, ...] = ()

    def gateway(self, number: int) -> str | None:
        """The name behind a number."""
        return self.gateways[number] if 0 <= number < len(self.gateways) else None


class Entered(NamedTuple):
    """A `Placed` as it stands in the ledger: with its seq, and the entry it is in."""

    entry_id: str
    seq: int
    line: Placed
    key: str

    @property
    def at_ms(self) -> int:
        """When it was given its place, by the broker's clock."""
        return int(self.entry_id.partition("-")[0])


class Lines(NamedTuple):
    """What some entries of the stream say."""

    entered: list[Entered]
    rolls: dict[bytes, tuple[str, ...]]
    settled: list[Settled]
    last_id: str | None


_encoder: Final = msgspec.msgpack.Encoder()
_ordered: Final = msgspec.msgpack.Decoder(Placed | Roll)
_settled: Final = msgspec.msgpack.Decoder(Settled)


def read(reply: Iterable[Any]) -> Lines:
    """The lines of an XRANGE. What a newer version wrote is passed over."""
    lines = Lines([], {}, [], None)
    last_id = None
    for entry_id, fields in reply:
        last_id = entry_id.decode()
        for field, value in _pairs(fields):
            try:
                if field == SETTLED:
                    lines.settled.append(_settled.decode(value))
                    continue
                line = _ordered.decode(field)
            except msgspec.DecodeError:
                continue
            if isinstance(line, Roll):
                lines.rolls[line.digest] = line.members
            else:
                lines.entered.append(Entered(last_id, int(value), line, line.key.hex()))
    return lines._replace(last_id=last_id)


def size(entry: Any) -> int:
    """The bytes of the lines of one entry of an XRANGE."""
    return sum(len(field) + len(value) for field, value in _pairs(entry[1]))


def recipients(conversation_id: str, sender_id: str, roll: Collection[str]) -> list[str]:
    """Whom a message is for: all but who wrote it, by the name it is written under."""
    return [user_id for user_id in names.direct_pair(conversation_id) or roll if user_id != sender_id]


class Notes:
    """What a partition's owner has to write into the ledger, until the next script takes it along."""

    def __init__(self, members_max: int) -> None:
        self._members_max = members_max
        self._rolls: OrderedDict[str, tuple[Collection[str], bytes, float]] = OrderedDict()
        self._unwritten: list[bytes] = []
        self._gateways: dict[str, int] = {}
        self._done: list[Done] = []
        self._confirmed: list[Confirmed] = []
        self._base_ms = 0

    # --- for order.lua -------------------------------------------------------------------------

    def placed(self, key: str, conversation_id: str, members: Collection[str] | None, *, is_anonymous: bool) -> bytes:
        """The line of a message that asks for a place. `members` are those of its group, its sender among them."""
        if members is None:
            return _encoder.encode(Placed(bytes.fromhex(key), conversation_id, 1))
        if is_anonymous:
            return _encoder.encode(Placed(bytes.fromhex(key), conversation_id, len(members)))
        count = max(0, len(members) - 1)
        roll = self._roll(conversation_id, members) if len(members) <= self._members_max else b""
        return _encoder.encode(Placed(bytes.fromhex(key), conversation_id, count, roll))

    def take_rolls(self) -> list[bytes]:
        """The lines of groups that are new in the ledger, or were written down long ago."""
        unwritten, self._unwritten = self._unwritten, []
        return unwritten

    def _roll(self, conversation_id: str, members: Collection[str]) -> bytes:
        now = time.monotonic()
        known, digest, written_at = self._rolls.get(conversation_id, ((), b"", 0.0))
        if known is not members and known != members:
            listed = "\n".join(sorted(members)).encode()
            digest, written_at = blake2b(listed, digest_size=_DIGEST_BYTES).digest(), 0.0
        if not written_at or now > written_at + ROLL_AGAIN_S:
            self._unwritten.append(_encoder.encode(Roll(digest, tuple(sorted(members)))))
            written_at = now
        self._rolls[conversation_id] = (members, digest, written_at)
        if len(self._rolls) > _ROLLS:
            self._rolls.popitem(last=False)
        return digest

    # --- for acknowledge.lua -------------------------------------------------------------------

    def done(
        self,
        message: Message,
        gateway: str,
        *,
        took_ms: int,
        read_ms: int,
        saved_ms: int | None,
        published_ms: int,
        told: int,
    ) -> None:
        """A message went through: where it was when."""
        number = NOWHERE if message.is_anonymous else self._number(gateway)
        if message.is_anonymous:
            took_ms = read_ms  # by how much a gateway's clock is wrong it could be told from the others
        save = None if saved_ms is None else saved_ms - took_ms
        took = self._since_base(took_ms)
        key = bytes.fromhex(message.key)
        self._done.append(Done(key, told, took, read_ms - took_ms, save, published_ms - took_ms, number))

    def confirmed(self, message: Message, user_ids: Sequence[str], gateway: str, at_ms: int) -> None:
        """Devices of these users have a message now, and had it not before."""
        is_direct = names.direct_pair(message.conversation_id) is not None
        users = tuple(user_id for user_id in user_ids if user_id != message.sender_id)
        if not users or (message.is_anonymous and not is_direct):
            return
        if is_direct:
            users = ()
        number = NOWHERE if names.is_pseudonymous(message.conversation_id) else self._number(gateway)
        at = self._since_base(at_ms)
        self._confirmed.append(Confirmed(bytes.fromhex(message.key), users, at, number))

    def take_settled(self) -> bytes:
        """The line that goes with the next acknowledgement; b"" if there is nothing to say."""
        if not self._done and not self._confirmed:
            return b""
        said = Settled(self._base_ms, tuple(self._gateways), tuple(self._done), tuple(self._confirmed))
        self._gateways, self._done, self._confirmed, self._base_ms = {}, [], [], 0
        return _encoder.encode(said)

    def _number(self, gateway: str) -> int:
        return self._gateways.setdefault(gateway, len(self._gateways))

    def _since_base(self, at_ms: int) -> int:
        if not self._base_ms:
            self._base_ms = at_ms
        return at_ms - self._base_ms


def _pairs(fields: Any) -> Iterable[tuple[bytes, bytes]]:
    return fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
