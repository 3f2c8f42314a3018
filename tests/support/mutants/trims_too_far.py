"""A router that bounds a downlink by its length: what the gateway has not read goes as well."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from libs import keys
from libs.broker import type_of_command
from libs.wire.frames import Inbound, Section
from services.router import outbound

# A stream keeps so many entries.
_LENGTH: Final = 3


def break_it() -> None:
    """`XADD … MAXLEN`."""
    commands = outbound.commands

    def trimming(
        sections: Mapping[str, Sequence[Section]],
        forwarded: Sequence[tuple[int, Inbound]] = (),
        *,
        stream: Callable[[str], str] = keys.downlink,
    ) -> list[type_of_command]:
        return [_trimming(command) for command in commands(sections, forwarded, stream=stream)]

    outbound.commands = trimming


def _trimming(command: type_of_command) -> type_of_command:
    name, key, option, *rest = command
    if option != "NOMKSTREAM":
        return command
    more: list[Any] = [name, key, option, "MAXLEN", _LENGTH, *rest]
    return tuple(more)
