"""Headers of the PROXY protocol, as proxies write them, in parts, and as nobody writes them."""

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import preface
from services.gateway.preface import Preface
from tests.support.proxies import binary_preface

_ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)
_PORTS = st.integers(0, 65_535)


@given(_ADDRESSES, _PORTS, st.binary(max_size=200), st.binary(max_size=50))
def test_both_versions_name_the_client(
    client: IPv4Address | IPv6Address, port: int, further: bytes, after: bytes
) -> None:
    """What follows the addresses of version 2 is passed over; what follows the header is left alone."""
    family = f"TCP{client.version}"
    line = f"PROXY {family} {client} {client} {port} 443\r\n".encode()
    binary = binary_preface(client, port, further)
    for said in (line, binary):
        assert preface.read(said + after) == Preface(len(said), (str(client), port))


@given(_ADDRESSES, _PORTS, st.data())
def test_a_header_may_come_in_any_parts(client: IPv4Address | IPv6Address, port: int, data: st.DataObject) -> None:
    """Until it is whole there is nothing to be said."""
    line = f"PROXY TCP{client.version} {client} {client} {port} 443\r\n".encode()
    for said in (line, binary_preface(client, port)):
        assert preface.read(said[: data.draw(st.integers(0, len(said) - 1))]) is None


@pytest.mark.parametrize(
    "said",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        binary_preface(None, 0),
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + bytes(216),
    ],
    ids=["unknown", "unknown, with addresses", "local", "a socket of Unix"],
)
def test_a_proxy_may_speak_for_itself(said: bytes) -> None:
    """Its checks do, and what has no address that counts."""
    assert preface.read(said) == Preface(len(said), None)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 10.0.0.1\r\n",
        b"PROXY TCP4 fd00::1 fd00::2 1 2\r\n",
        b"PROXY TCP4 10.0.0.300 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 65536 2\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 ٣ 2\r\n".encode(),
        b"PROXY TCP4 " + b"1" * 200,
        b"\r\n\r\n\x00\r\nQUIT\n\x11\x11\x00\x0c" + bytes(12),
        b"\r\n\r\n\x00\r\nQUIT\n\x22\x11\x00\x0c" + bytes(12),
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x0c" + bytes(12),
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header_is_told_apart_at_once(said: bytes) -> None:
    """Nobody waits for the rest of it."""
    with pytest.raises(preface.Wrong):
        preface.read(said)


@given(
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP6 ", b"\r\n\r\n\x00\r\nQUIT\n", b"\r\n\r\n\x00\r\nQUIT\n\x21\x21"]),
    st.binary(),
)
def test_whatever_comes_is_read_or_refused(head: bytes, rest: bytes) -> None:
    """An address that is told is one."""
    with suppress(preface.Wrong):
        said = preface.read(head + rest)
        assert said is None or said.client is None or ip_address(said.client[0])
