"""Operators' calls to a gateway of the cluster on this machine."""

from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from services.local.state import Running, State

# Longer than a gateway waits for a router.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=15)


class CannotOperate(Exception):
    """It could not be done. The message says why."""


class _Error(Struct, frozen=True):
    message: str = ""


class _Answer(Struct, frozen=True):
    error: _Error = _Error()


async def call(
    state: State, admin_token: str, method: str, path: str, said: Any = None, *, gateway: str | None = None
) -> str:
    """Call `gateway`, or the first one that can be reached; its answer, as JSON. Raises `CannotOperate`."""
    body = None if said is None else msgspec.json.encode(said)
    headers = {"Authorization": f"Bearer {admin_token}"}
    async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session:
        gateways = _gateways(state, gateway)
        for running in gateways:
            url = URL(f"http://{running.host}:{running.ports['internal']}{path}", encoded=True)
            try:
                async with session.request(method, url, data=body) as response:
                    answer = await response.text()
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise CannotOperate(f"{running.name} does not answer. Asking again is harmless.") from error
            if response.status != 200:
                raise CannotOperate(f"{running.name} answers {response.status}: {_reason(answer)}")
            return answer
    names = ", ".join(each.name for each in gateways)
    raise CannotOperate(f"{names} cannot be reached. `talowa status` says what runs.")


def revoke_path(user: str) -> str:
    """The path of the call that revokes a user."""
    return f"/users/{quote(user, safe='')}/revoke"


def _gateways(state: State, name: str | None) -> list[Running]:
    gateways = [each for each in state.processes if each.role == "gateway"]
    found = [each for each in gateways if each.pid is not None and name in (None, each.name)]
    if found:
        return found
    names = ", ".join(each.name for each in gateways)
    raise CannotOperate("no gateway runs" if name is None else f"no gateway {name!r} runs here: there are {names}")


def _reason(body: str) -> str:
    try:
        return msgspec.json.decode(body, type=_Answer).error.message or body
    except msgspec.DecodeError:
        return body
