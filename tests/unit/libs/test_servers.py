"""From an address to connections: hosts, passwords and TLS, for one server, Sentinels and clusters."""

from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from redis.asyncio import SSLConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection

from libs.servers import ClusterServers, Servers, servers


def arguments(url: str) -> dict[str, Any]:
    """What the connections to a server, or to a node, are made with."""
    found = servers(url)
    pool = found.pool(("host", 1)) if isinstance(found, ClusterServers) else found.pool
    return dict(pool.connection_kwargs)


@pytest.mark.parametrize(
    ("url", "seeds"),
    [
        ("redis+cluster://one.example", [("one.example", 6379)]),
        ("redis+cluster://:pw@one.example:7000,two.example", [("one.example", 7000), ("two.example", 6379)]),
        ("rediss+cluster://[::1]:7000,[::2]", [("::1", 7000), ("::2", 6379)]),
    ],
)
def test_any_node_that_is_named_may_be_asked_for_the_others(url: str, seeds: list[tuple[str, int]]) -> None:
    """Several, for one may be down; the port of a server where none is named."""
    found = servers(url)
    assert isinstance(found, ClusterServers)
    assert found.seeds == seeds


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
def test_a_password_is_for_the_servers_and_is_decoded(kind: str) -> None:
    """A user too, if there is one. Sentinels have their own."""
    url = f"redis+{kind}://me:s%40cret@one.example,two.example/name"
    found = arguments(url)
    assert (found["username"], found["password"]) == ("me", "s@cret")


def test_sentinels_are_asked_with_their_own_password() -> None:
    """And without one unless it is said: they refuse what they do not know."""
    for url, password in (
        ("redis+sentinel://:pw@one.example/name", None),
        ("redis+sentinel://:pw@one.example/name?sentinel_password=other", "other"),
    ):
        found = servers(url)
        assert isinstance(found, Servers)
        assert found.pool.connection_kwargs["password"] == "pw"  # noqa: S105 - not one
        (sentinel,) = found._sentinel.sentinels  # type: ignore[union-attr]
        assert sentinel.connection_pool.connection_kwargs.get("password") == password


def test_tls_is_spoken_to_nodes_and_to_sentinels() -> None:
    """With what the query says of certificates."""
    cluster = servers("rediss+cluster://one.example?ssl_ca_certs=/ca.pem")
    assert isinstance(cluster, ClusterServers)
    node = cluster.pool(("one.example", 6379))
    assert issubclass(node.connection_class, SSLConnection)
    assert node.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
    watched = servers("rediss+sentinel://one.example/name?ssl_ca_certs=/ca.pem")
    assert isinstance(watched, Servers)
    assert watched.pool.connection_class is SentinelManagedSSLConnection
    assert watched.pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
    (sentinel,) = watched._sentinel.sentinels  # type: ignore[union-attr]
    assert issubclass(sentinel.connection_pool.connection_class, SSLConnection)
    assert sentinel.connection_pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"


def test_a_server_that_is_gone_is_not_tried_again_and_again() -> None:
    """redis-py's ten retries would have one dead Sentinel hold up the question to the next."""
    found = servers("redis+sentinel://one.example,two.example/name")
    assert isinstance(found, Servers)
    for sentinel in found._sentinel.sentinels:  # type: ignore[union-attr]
        assert sentinel.connection_pool.connection_kwargs["retry"]._retries == 0


@pytest.mark.parametrize(
    ("told", "primary"),
    [
        ([("10.0.0.1", 6379)] * 3, ("10.0.0.1", 6379)),
        ([(b"10.0.0.2", b"6379"), OSError(), ("10.0.0.2", 6379)], ("10.0.0.2", 6379)),
        ([("10.0.0.1", 6379), ("10.0.0.2", 6379), None], None),
        ([("10.0.0.1", 6379), TimeoutError(), OSError()], None),
    ],
)
async def test_the_primary_is_who_most_sentinels_name(told: list[object], primary: tuple[str, int] | None) -> None:
    """One that was cut off from the others names who was the primary before; what they disagree on is left."""
    found = servers("redis+sentinel://one.example,two.example,three.example/name")
    assert isinstance(found, Servers)
    found._sentinel.sentinels = [Mock(execute_command=AsyncMock(side_effect=[one])) for one in told]  # type: ignore[union-attr]
    assert await found.primary() == primary


async def test_nobody_names_a_server_that_is_alone() -> None:
    """It is where its address says."""
    found = servers("redis://one.example")
    assert isinstance(found, Servers)
    assert not found.is_watched
    assert await found.primary() is None
