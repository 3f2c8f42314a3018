"""The address a client is counted under: the one that no client can make up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import addresses
from services.gateway.settings import GatewaySettings

_TRUSTED = addresses.networks("10.0.0.0/8, fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),  # not a proxy of ours: it may say what it likes
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1,10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # somebody inside
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1:5678"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8:1:2:3::9]:443"], "2001:db8:1:2::"),
        ("fd00::1", ["2001:db8:1:2:3::9"], "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("fe80::1%eth0", [], "fe80::"),
        (None, ["198.51.100.1"], ""),
        ("", [], ""),
        ("unix:", [], ""),
    ],
)
def test_the_rightmost_address_that_is_no_proxy_of_ours_counts(
    peer: str | None, forwarded: list[str], counted: str
) -> None:
    """IPv6 by what one subscriber has; who has no address is not counted."""
    assert addresses.client(peer, forwarded, _TRUSTED) == counted


def test_without_trusted_proxies_nobody_is_believed() -> None:
    """The default."""
    assert addresses.networks("") == ()
    assert addresses.client("10.0.0.1", ["198.51.100.1"], ()) == "10.0.0.1"


@pytest.mark.parametrize("text", ["10.0.0.0/33", "proxy", "10.0.0.1/8", "10.0.0.0/8;fd00::/8"])
def test_what_is_no_network_is_named(text: str) -> None:
    """So that a service does not start on it."""
    with pytest.raises(ValueError, match=r"10\.0\.0|proxy"):
        addresses.networks(f"fd00::/8, {text}")


@given(st.lists(st.text(max_size=40), max_size=5), st.ip_addresses(v=4))
def test_whatever_a_client_says_its_own_address_counts(made_up: list[str], real: object) -> None:
    """What the trusted proxy appended stands furthest right."""
    said = ",".join([*made_up, str(real)])
    alone = addresses.client("10.0.0.1", [str(real)], _TRUSTED)
    if not str(real).startswith("10."):
        assert addresses.client("10.0.0.1", [said], _TRUSTED) == alone == str(real)


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=3))
def test_nothing_that_is_said_raises(peer: str, forwarded: list[str]) -> None:
    """Nonsense is no address."""
    addresses.client(peer, forwarded, _TRUSTED)
    addresses.client("10.0.0.1", forwarded, _TRUSTED)


def test_a_gateway_does_not_start_with_a_network_that_is_none() -> None:
    """The variable, the value and the remedy are said."""
    settings = GatewaySettings(redis_url="", ticket_secret="x" * 32, trusted_proxies="10.0.0.0/8, 10.0.0.300/32")
    (problem,) = [one for one in settings.problems() if one.startswith("TRUSTED_PROXIES")]
    assert "10.0.0.300/32" in problem
    assert "Give networks" in problem


def test_only_proxies_that_are_trusted_are_in() -> None:
    """However their address is written; who has none is nobody's proxy."""
    assert [addresses.is_in(peer, _TRUSTED) for peer in ("10.1.2.3", "::ffff:10.0.0.1", "fd00::1")] == [True] * 3
    assert [addresses.is_in(peer, _TRUSTED) for peer in ("11.0.0.1", "unix:", "", None)] == [False] * 4
