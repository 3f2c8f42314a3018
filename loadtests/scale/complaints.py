"""What services complained of: the warnings and errors in their logs, by role and event, counted."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from services.local.cluster import Cluster

_COMPLAINTS: Final = ("warning", "error", "critical")


class _Line(Struct):
    level: str = ""
    event: str = ""


_lines: Final = msgspec.json.Decoder(_Line)


def complaints(cluster: Cluster) -> dict[str, int]:
    """Of all processes that log lines of JSON: not of the broker."""
    found: Counter[str] = Counter()
    for running in cluster.state().processes:
        if running.role != "broker":
            with cluster.log(running.name).open("rb") as log:
                found.update(f"{running.role} {each}" for each in said(log))
    return dict(found)


def said(log: Iterable[bytes]) -> Iterator[str]:
    """The complaints among these lines: level and event. What is no JSON is a stack trace, and one as well."""
    for line in log:
        try:
            read = _lines.decode(line)
        except msgspec.DecodeError:
            yield "error: no line of JSON"
        else:
            if read.level in _COMPLAINTS:
                yield f"{read.level}: {read.event}"
