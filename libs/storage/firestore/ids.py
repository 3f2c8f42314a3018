"""What Firestore takes for an id, a field's name or a value, and what to do with the rest. Pure."""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

_DIGEST_BYTES: Final = 16
_BYTES: Final = 1500
_DEPTH: Final = 16  # of 20, from the document on
_RESERVED: Final = re.compile(r"__.*__", re.DOTALL)


def derived(*parts: str | int) -> str:
    """An id that follows from what it is of: one write can be repeated, and ids are spread evenly."""
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def readable(id_: str) -> str:
    """An id as it is, or one derived from it where Firestore does not take it."""
    return id_ if "/" not in id_ and id_ not in (".", "..") and is_name(id_) else derived(id_)


def is_name(text: str) -> bool:
    """Whether a field can be called so."""
    return bool(text) and len(text.encode()) <= _BYTES and _RESERVED.fullmatch(text) is None


def is_storable(value: Any, depth: int = _DEPTH) -> bool:
    """Whether Firestore takes what a JSON document holds: no list in a list, no odd names, no great depth or number."""
    match value:
        case Mapping():
            return depth > 0 and all(is_name(name) and is_storable(each, depth - 1) for name, each in value.items())
        case list():
            return depth > 0 and all(not isinstance(each, list) and is_storable(each, depth - 1) for each in value)
        case bool() | str() | None | float():
            return True
        case int():
            return -(1 << 63) <= value < 1 << 63
        case _:
            return False
