"""Whether gateways hold their share of the sockets, and how many of them each is to send away. Pure.

Everyone's share is the mean. An order names those who hold more, and what they may do about it. An ingress that deals
in turn sends some of those who leave back to where they came from: so an order is carried out until all are near
their share, or until each gateway has sent away as many times its excess as there are gateways, which is what that
takes; more would help no more.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from libs.figures import Figures, GatewayFigures

# So far from the mean is near enough: less is not worth anyone's reconnecting, and comes by itself.
_TOLERANCE: Final = 0.1
_TOLERATED: Final = 10
_ACCEPTING: Final = "accepting"


class Share(Struct, frozen=True):
    """What one gateway holds too many, and how many sign-ins a second are its part of the bound."""

    excess: int
    sign_ins_per_s: float


class Order(Struct, frozen=True):
    """To be carried out by the gateways in `shares`. `number` tells it from others."""

    number: str
    target: int
    shares: dict[str, Share]


def accepting(figures: Iterable[Figures]) -> dict[str, int]:
    """The gateways that take sockets, and how many each has: those that leave are no part of this."""
    return {
        each.id: each.connections for each in figures if isinstance(each, GatewayFigures) and each.state == _ACCEPTING
    }


def share_of(connections: Mapping[str, int]) -> int:
    """The mean, as whole sockets."""
    return math.ceil(sum(connections.values()) / len(connections)) if connections else 0


def is_even(connections: Mapping[str, int], target: int) -> bool:
    """Whether everyone is near the target."""
    tolerance = max(_TOLERATED, target * _TOLERANCE)
    return all(abs(count - target) <= tolerance for count in connections.values())


def order(connections: Mapping[str, int], number: str, sign_ins_per_s: float) -> Order:
    """What is to be done. Nothing, and no shares, if all are near enough."""
    target = share_of(connections)
    excess = {gateway: count - target for gateway, count in connections.items() if count > target}
    if is_even(connections, target):
        excess = {}
    all_of_it = sum(excess.values())
    shares = {gateway: Share(count, sign_ins_per_s * count / all_of_it) for gateway, count in excess.items()}
    return Order(number, target, shares)


def left_to_close(given: Order, gateway: str, connections: Mapping[str, int], own: int, closed: int) -> int:
    """How many sockets `gateway`, which has `own` now and has `closed` some for this order, may still close.

    None once all are near enough. Never below its share: that of today, should others have died meanwhile.
    """
    share = given.shares.get(gateway)
    if share is None or gateway not in connections or is_even(connections, given.target):
        return 0
    target = max(given.target, share_of(connections))
    return max(0, min(own - target, share.excess * len(connections) - closed))
