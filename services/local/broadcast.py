"""`talowa broadcast`: warn whole villages through the running cluster, and see how far a warning has come."""

from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import msgspec

from services.local.state import State

# Longer than a gateway waits for a router.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=15)
_decoder: Final = msgspec.json.Decoder(dict[str, Any])


class CannotBroadcast(Exception):
    """Nobody took it. The message says why, and what to do."""


async def send(
    state: State, admin_token: str, *, level: str, place_ids: Sequence[str], priority: str, title: str, text: str
) -> list[str]:
    """Broadcast, and say what became of it in lines for a person. Raises `CannotBroadcast`."""
    said = {
        "title": title,
        "content": text,
        "locationLevel": level,
        "locationIds": place_ids,
        "priority": priority,
    }
    answer = await _call(state, admin_token, "POST", "/emergency-broadcast", said)
    reach = answer["reach"]
    away = "an unknown number, as the store is away," if reach["offline"] is None else str(reach["offline"])
    return [
        f"{answer['status']}: {answer['broadcastId']}",
        f"{reach['online']} are online; {away} will get it when they sign in",
    ]


async def tally(state: State, admin_token: str, broadcast_id: str) -> list[str]:
    """How far a broadcast has come, in lines for a person. Raises `CannotBroadcast`."""
    answer = await _call(state, admin_token, "GET", f"/broadcasts/{broadcast_id}")
    return [_line("all", answer), *(_line(place["locationId"], place) for place in answer["locations"])]


def _line(name: str, counts: dict[str, Any]) -> str:
    return f"{name}: for {counts['recipients']}, reached {counts['delivered']}, still due to {counts['due']}"


async def _call(state: State, admin_token: str, method: str, path: str, said: object = None) -> dict[str, Any]:
    """The answer of the first gateway that can be reached."""
    headers = {"Authorization": f"Bearer {admin_token}"}
    body = None if said is None else msgspec.json.encode(said)
    async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session:
        for running in state.processes:
            if running.role != "gateway" or running.pid is None:
                continue
            url = f"http://{running.host}:{running.ports['internal']}{path}"
            try:
                async with session.request(method, url, data=body) as response:
                    answer = _decoder.decode(await response.read())
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
                why = (
                    f"{running.name} did not answer ({type(error).__name__}). Sending the same words again is harmless."
                )
                raise CannotBroadcast(why) from error
            if "error" in answer:
                raise CannotBroadcast(f"{answer['error']['code']}: {answer['error']['message']}")
            return answer
    raise CannotBroadcast("no gateway can be reached. `talowa status` says what runs.")
