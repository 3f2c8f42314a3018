"""`talowa broadcast`: warn whole villages through the running cluster, and see how far a warning has come."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from services.local.operators import call
from services.local.state import State

_decoder: Final = msgspec.json.Decoder(dict[str, Any])


async def send(
    state: State, admin_token: str, *, level: str, place_ids: Sequence[str], priority: str, title: str, text: str
) -> list[str]:
    """Broadcast, and say what became of it in lines for a person. Raises `CannotOperate`."""
    said = {
        "title": title,
        "content": text,
        "locationLevel": level,
        "locationIds": place_ids,
        "priority": priority,
    }
    answer = _decoder.decode(await call(state, admin_token, "POST", "/emergency-broadcast", said))
    reach = answer["reach"]
    away = "an unknown number, as the store is away," if reach["offline"] is None else str(reach["offline"])
    return [
        f"{answer['status']}: {answer['broadcastId']}",
        f"{reach['online']} are online; {away} will get it when they sign in",
    ]


async def tally(state: State, admin_token: str, broadcast_id: str) -> list[str]:
    """How far a broadcast has come, in lines for a person. Raises `CannotOperate`."""
    answer = _decoder.decode(await call(state, admin_token, "GET", f"/broadcasts/{broadcast_id}"))
    return [_line("all", answer), *(_line(place["locationId"], place) for place in answer["locations"])]


def _line(name: str, counts: dict[str, Any]) -> str:
    return f"{name}: for {counts['recipients']}, reached {counts['delivered']}, still due to {counts['due']}"
