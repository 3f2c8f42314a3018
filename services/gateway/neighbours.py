"""Where the other gateways are: the address of each one's internal port, as it says in its figures.

A gateway's name belongs to one process, so an address that is known stays good until its gateway is gone:
`forget` it when it does not answer.
"""

import asyncio
import socket
import time
from collections.abc import Mapping
from typing import Final

import msgspec
import structlog

from libs import keys
from libs.broker import AWAY, Broker

log = structlog.get_logger(__name__)

# Who asks for gateways that never were costs the broker no more than a look this often.
_LOOK_S: Final = 0.1
_ANY_HOST: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
# Kept for documentation, so routed as the rest of the world is; nothing is sent to them.
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


class _Figures(msgspec.Struct, rename="camel"):
    relay_address: str = ""


_figures: Final = msgspec.json.Decoder(_Figures)


class Neighbours:
    """Looks gateways up, all at once and seldom."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._addresses: Mapping[str, str] = {}
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def address_of(self, gateway: str) -> str | None:
        """`host:port` of its internal port, None if there is no such gateway or the broker cannot say."""
        if gateway not in self._addresses:
            asked_at = time.monotonic()
            async with self._looking:  # those who wait are answered by one look
                if self._looked_at < asked_at:
                    await asyncio.sleep(self._looked_at + _LOOK_S - time.monotonic())
                    await self._look()
        return self._addresses.get(gateway)

    def forget(self, gateway: str) -> None:
        """It did not answer: look again before it is asked again."""
        self._addresses = {name: address for name, address in self._addresses.items() if name != gateway}

    async def _look(self) -> None:
        self._looked_at = time.monotonic()
        try:
            found = await self._broker.command("HGETALL", keys.figures())
        except AWAY as error:
            log.warning("no gateways looked up: the broker is away", error=type(error).__name__)
        else:
            addresses = {name.decode(): _figures.decode(packed).relay_address for name, packed in found.items()}
            self._addresses = {name: address for name, address in addresses.items() if address}


def address(internal_host: str, internal_port: int) -> str:
    """Where others reach this gateway, unless a setting knows better: the host it listens on, or this machine."""
    host = _own_host() if internal_host in _ANY_HOST else internal_host
    return f"[{host}]:{internal_port}" if ":" in host else f"{host}:{internal_port}"


def _own_host() -> str:
    """The address that this machine, or this pod, has to others; its own to itself where it has no network."""
    for family, there in _ELSEWHERE:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((there, 9))
                return str(probe.getsockname()[0])
            except OSError:
                continue
    return "127.0.0.1"
