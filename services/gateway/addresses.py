"""From which address a client comes, when proxies stand between. Pure.

A proxy that is trusted appends the address it was reached from to `X-Forwarded-For`; whatever stands further left, a
client may have made up. So the address is the rightmost one that is not a trusted proxy's.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# What one subscriber is given of IPv6: whoever has one address has 2⁶⁴.
_IPV6_PREFIX: Final = 64


def networks(text: str) -> tuple[Network, ...]:
    """Networks separated by commas, such as `10.0.0.0/8, fd00::/8`. Raises ValueError, which names the wrong one."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def client(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Whom a connection from `peer` is counted as: an IPv4 address or the /64 of an IPv6 one.

    `forwarded` are the `X-Forwarded-For` headers in their order. Empty for a peer without an address.
    """
    address = _address(peer or "")
    if address is None:
        return ""
    if trusted and _is_in(address, trusted):
        for hop in reversed(",".join(forwarded).split(",")):
            further = _address(hop.strip())
            if further is None:
                break  # nothing, or nonsense: the proxy that said so is the furthest we know
            address = further
            if not _is_in(address, trusted):
                break
    return _counted(address)


def is_in(peer: str | None, trusted: Sequence[Network]) -> bool:
    """Whether a connection's peer is one of these."""
    address = _address(peer or "")
    return address is not None and _is_in(address, trusted)


def _address(text: str) -> Address | None:
    """An address, perhaps with a port as some proxies write it; None if it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_in(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _counted(address: Address) -> str:
    if isinstance(address, IPv6Address):
        return str(IPv6Address(int(address) >> _IPV6_PREFIX << _IPV6_PREFIX))
    return str(address)
