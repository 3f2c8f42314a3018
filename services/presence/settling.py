"""Take off a list what was dealt with, unless it changed meanwhile."""

from collections.abc import Iterable
from typing import Final

from libs.broker import Call, Script

_settle: Final = Script("services.presence", "settle.lua")


def settle(key: str, fields: Iterable[tuple[str, int]]) -> Call:
    """Fields of the hash at `key`, and the values that were dealt with."""
    return _settle.call([key], *(part for field in fields for part in field))
