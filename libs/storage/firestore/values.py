"""Documents and writes of Firestore as its wire has them: Python values to bytes, and back.

Writes are encoded here, field by field (google/firestore/v1 `document.proto`, `write.proto`): the client's model
classes cost 120 µs a document, filling protobuf's own classes 25, this 6 (`tests/bench/test_firestore.py`). Pure;
knows nothing of Google's libraries, of whose messages `plain` only asks by name.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

# Firestore's times are of the years 1 to 9999.
_LAST_MS: Final = 253_402_300_799_999
_DOUBLE: Final = struct.Struct("<d")
# Names of fields, and words: far more than there are of the first, the most used of the second.
_REMEMBERED: Final = 20_000


class Instant(Struct, frozen=True):
    """A moment, stored as Firestore's own timestamp; one beyond its years is the last it has."""

    ms: int


class Reference(Struct, frozen=True):
    """A document by its full name: what `__name__` is compared with."""

    name: str


class Packed(Struct, frozen=True):
    """A value that is encoded already."""

    wire: bytes


class Stamp(Struct, frozen=True, order=True):
    """The version of a document: when it was written, to the nanosecond."""

    seconds: int
    nanos: int

    @property
    def us(self) -> int:
        """Microseconds since 1970, in which Firestore counts."""
        return self.seconds * 1_000_000 + self.nanos // 1000


class Found(Struct, frozen=True):
    """A document as it was read."""

    id: str
    fields: dict[str, Any]
    created: Stamp
    updated: Stamp


def varint(number: int) -> bytes:
    """Protobuf's number; negative ones as 64 bits."""
    if 0 <= number < _KNOWN:
        return _VARINTS[number]
    number &= (1 << 64) - 1
    if number < _KNOWN * _KNOWN:
        return _PAIRS[number & _LOW] + _VARINTS[number >> 14]
    return _PAIRS[number & _LOW] + _PAIRS[number >> 14 & _LOW] + varint(number >> 28)


# Two digits at a time from a table: times and seqs took a microsecond each, of which a message has five.
_KNOWN: Final = 1 << 14
_LOW: Final = _KNOWN - 1
_VARINTS: Final = tuple(bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(_KNOWN))
_PAIRS: Final = tuple(bytes((n & 127 | 128, n >> 7 | 128)) for n in range(_KNOWN))


def block(tag: bytes, content: bytes) -> bytes:
    """A field of variable length."""
    return tag + varint(len(content)) + content


def value(given: Any) -> bytes:
    """A `Value`. Raises `UnicodeEncodeError` for half a surrogate pair, `TypeError` for what has no type there."""
    encode = _ENCODERS.get(type(given)) or _encoder(given)
    return encode(given)


def _encoder(given: Any) -> Callable[[Any], bytes]:
    """For what is no plain type of Python's."""
    if isinstance(given, Mapping):
        return _map
    if isinstance(given, Iterable):
        return _array
    raise TypeError(f"Firestore has no type for {type(given).__name__}")


def _text(given: str) -> bytes:
    content = given.encode()
    return b"\x8a\x01" + varint(len(content)) + content


def _map(given: Mapping[str, Any]) -> bytes:
    return block(b"\x32", b"".join([_entry(b"\x0a", name, each) for name, each in given.items()]))


def _array(given: Iterable[Any]) -> bytes:
    return block(b"\x4a", array(given))


def _instant(given: Instant) -> bytes:
    seconds, ms = divmod(min(max(given.ms, 0), _LAST_MS), 1000)
    content = _seconds(seconds) + _MS[ms]
    return b"\x52" + _VARINTS[len(content)] + content


@lru_cache(256)
def _seconds(seconds: int) -> bytes:
    """What is written now is of a few seconds."""
    return b"\x08" + varint(seconds)


_MS: Final = tuple(b"\x10" + varint(ms * 1_000_000) for ms in range(1000))


def _stamp(given: Stamp) -> bytes:
    return block(b"\x52", b"\x08" + varint(given.seconds) + b"\x10" + varint(given.nanos))


_ENCODERS: Final[Mapping[type[Any], Callable[[Any], bytes]]] = {
    str: _text,
    bool: lambda given: b"\x08\x01" if given else b"\x08\x00",
    int: lambda given: b"\x10" + varint(given),
    float: lambda given: b"\x19" + _DOUBLE.pack(given),
    bytes: lambda given: block(b"\x92\x01", given),
    type(None): lambda _: b"\x58\x00",
    dict: _map,
    list: _array,
    tuple: _array,
    Instant: _instant,
    Stamp: _stamp,
    Reference: lambda given: block(b"\x2a", given.name.encode()),
    Packed: lambda given: given.wire,
}


def array(given: Iterable[Any]) -> bytes:
    """What an `ArrayValue` holds."""
    return b"".join([block(b"\x0a", value(each)) for each in given])


@lru_cache(_REMEMBERED)
def element(text: str) -> bytes:
    """A text as it stands in an `ArrayValue`; for those that come again and again."""
    return block(b"\x0a", value(text))


def packed_array(elements: Iterable[bytes]) -> Packed:
    """An array of what `element` made."""
    content = b"".join(elements)
    return Packed(b"\x4a" + varint(len(content)) + content)


def create(name: str, fields: Mapping[str, Any], *more: bytes) -> bytes:
    """A `Write` of a document that must not be there yet. `name` is the full one, `more` what `field` made."""
    encoded = [_entry(b"\x12", field, each) for field, each in fields.items()]
    content = name.encode()
    document = b"".join((b"\x0a", varint(len(content)), content, *encoded, *more))
    return b"\x0a" + varint(len(document)) + document + b"\x22\x02\x08\x00"


def field(name: str, given: Any) -> bytes:
    """A field as it stands in a document; for those whose values come again and again, and are encoded once."""
    return _entry(b"\x12", name, given)


def put(
    name: str,
    fields: Mapping[str, Any],
    *,
    only: Sequence[str] | None = None,
    maximum: Mapping[str, int] | None = None,
    stamped: Sequence[str] = (),
    union: Mapping[str, Sequence[Any]] | None = None,
    without: Mapping[str, Sequence[Any]] | None = None,
    if_version: Stamp | None = None,
    if_there: bool | None = None,
) -> bytes:
    """A `Write` of a document: all of it, or `only` some fields (those that `fields` lacks are removed).

    `maximum` fields never go down, `stamped` ones get the time of the commit, `union` ones get elements that they
    lack, `without` ones lose elements. With `if_version` or `if_there` the commit fails where another version, or none,
    stands.
    """
    parts = [block(b"\x0a", _document(name, fields))]
    if only is not None:
        parts.append(block(b"\x1a", b"".join([block(b"\x0a", _path(field)) for field in only])))
    parts += [
        block(b"\x3a", block(b"\x0a", _path(field)) + block(b"\x22", value(least)))
        for field, least in (maximum or {}).items()
    ]
    parts += [block(b"\x3a", block(b"\x0a", _path(field)) + b"\x10\x01") for field in stamped]
    parts += [
        block(b"\x3a", block(b"\x0a", _path(field)) + block(b"\x32", array(added)))
        for field, added in (union or {}).items()
    ]
    parts += [
        block(b"\x3a", block(b"\x0a", _path(field)) + block(b"\x3a", array(taken)))
        for field, taken in (without or {}).items()
    ]
    return b"".join(parts) + _precondition(if_version, if_there)


def verify(name: str, if_version: Stamp) -> bytes:
    """What is no write: the commit fails where another version of a document stands, or none.

    Google's web client ends its transactions with it (firebase-js-sdk, `write.proto`: `verify = 5`).
    """
    return block(b"\x2a", name.encode()) + _precondition(if_version, None)


def delete(name: str, *, if_version: Stamp | None = None) -> bytes:
    """A `Write` that removes a document."""
    return block(b"\x12", name.encode()) + _precondition(if_version, None)


def commit_request(database: str, writes: Iterable[bytes]) -> bytes:
    """A `CommitRequest`."""
    parts = [block(b"\x0a", database.encode())]
    for write in writes:
        parts += (b"\x12", varint(len(write)), write)
    return b"".join(parts)


def plain(value: Any) -> Any:  # noqa: PLR0911 - one line a type
    """What one of protobuf's `Value` messages holds; a timestamp as its `Stamp`."""
    match value.WhichOneof("value_type"):
        case "string_value":
            return value.string_value
        case "integer_value":
            return value.integer_value
        case "boolean_value":
            return value.boolean_value
        case "timestamp_value":
            return Stamp(value.timestamp_value.seconds, value.timestamp_value.nanos)
        case "array_value":
            return [plain(each) for each in value.array_value.values]
        case "map_value":
            return {name: plain(each) for name, each in value.map_value.fields.items()}
        case "double_value":
            return value.double_value
        case "bytes_value":
            return value.bytes_value
        case "reference_value":
            return value.reference_value
        case _:
            return None


def found(document: Any) -> Found:
    """What one of protobuf's `Document` messages holds."""
    created, updated = document.create_time, document.update_time
    return Found(
        document.name.rpartition("/")[2],
        {name: plain(each) for name, each in document.fields.items()},
        Stamp(created.seconds, created.nanos),
        Stamp(updated.seconds, updated.nanos),
    )


def _document(name: str, fields: Mapping[str, Any]) -> bytes:
    return block(b"\x0a", name.encode()) + b"".join([_entry(b"\x12", field, each) for field, each in fields.items()])


def _entry(tag: bytes, name: str, given: Any) -> bytes:
    """What a map or a document has by a name. Most of what a message costs is spent here: few calls, one copy."""
    content = (_ENCODERS.get(type(given)) or _encoder(given))(given)
    size = len(content)
    head = _KEYS[name] + (_VARINTS[size] if size < _KNOWN else varint(size))
    size += len(head)
    return b"".join((tag, _VARINTS[size] if size < _KNOWN else varint(size), head, content))


class _Keys(dict[str, bytes]):
    """A field's name, and what its value begins with."""

    def __missing__(self, name: str) -> bytes:
        found = block(b"\x0a", name.encode()) + b"\x12"
        if len(self) < _REMEMBERED:
            self[name] = found
        return found


_KEYS: Final = _Keys()


@lru_cache(_REMEMBERED)
def _path(field: str) -> bytes:
    return field.encode()


def _precondition(version: Stamp | None, is_there: bool | None) -> bytes:
    if version is not None:
        return block(b"\x22", block(b"\x12", b"\x08" + varint(version.seconds) + b"\x10" + varint(version.nanos)))
    if is_there is not None:
        return b"\x22\x02\x08\x01" if is_there else b"\x22\x02\x08\x00"
    return b""
