"""Every Redis key and stream name: one function each, with its type, its life and who uses it.

Keys that one script touches share a hash tag (`{p07}`, `{d3}`, `{gw:…}`), so that a cluster can run
it. `docs/redis.md` tells the same at more length; a test holds the two together through `CATALOGUE`.
"""

from typing import Final, NamedTuple

_PREFIX: Final = "talowa"

# Seats are spread over a few hashes, so that locating a batch of users is one HMGET a hash, and a
# cluster of brokers can share them. Fixed: changing it means forgetting who is where.
DIRECTORY_SHARDS: Final = 8


def partitions() -> str:
    """How many partitions this cluster has; written by whoever starts first, compared by the rest."""
    return f"{_PREFIX}:partitions"


def inbound(partition: int) -> str:
    """Frames from gateways for the router that owns `partition`; holds what is not acknowledged."""
    return f"{_PREFIX}:{{p{partition:02d}}}:in"


def lease(partition: int) -> str:
    """Who owns `partition`: `<token> <router>`, for as long as it is renewed."""
    return f"{_PREFIX}:{{p{partition:02d}}}:lease"


def lease_token(partition: int) -> str:
    """The last fencing token given out for `partition`."""
    return f"{_PREFIX}:{{p{partition:02d}}}:token"


def positions() -> str:
    """How far the owner of each partition has read: what lies beyond waits for a router, what lies before may
    wait for the store."""
    return f"{_PREFIX}:positions"


def seqs(partition: int) -> str:
    """The last seq given in each conversation that has messages on their way to the store."""
    return f"{_PREFIX}:{{p{partition:02d}}}:seqs"


def assigned(partition: int) -> str:
    """The seq of each message on its way to the store, by message key."""
    return f"{_PREFIX}:{{p{partition:02d}}}:assigned"


def recent(partition: int, bucket: int) -> str:
    """Messages saved in one window of time, by message key: repeats are known while the store is away."""
    return f"{_PREFIX}:{{p{partition:02d}}}:recent:{bucket}"


def receipts(partition: int) -> str:
    """Receipts taken but not yet in the store, by conversation and user."""
    return f"{_PREFIX}:{{p{partition:02d}}}:receipts"


def routers() -> str:
    """Live routers and when each lapses."""
    return f"{_PREFIX}:routers"


def gateways() -> str:
    """Live gateways and when each lapses."""
    return f"{_PREFIX}:gateways"


def figures() -> str:
    """What each process says of itself, for `/status`."""
    return f"{_PREFIX}:{{figures}}"


def figures_lapse() -> str:
    """When what each process said lapses."""
    return f"{_PREFIX}:{{figures}}:lapse"


def downlink(gateway: str) -> str:
    """Frames from routers for one gateway; holds what it has not taken."""
    return f"{_PREFIX}:{{gw:{gateway}}}:down"


def seats(shard: int) -> str:
    """Which gateways each signed-in user is on."""
    return f"{_PREFIX}:{{d{shard}}}:seats"


def seated(shard: int, gateway: str) -> str:
    """The users one gateway has seats for, so that they can be dropped when it dies."""
    return f"{_PREFIX}:{{d{shard}}}:seated:{gateway}"


class Key(NamedTuple):
    """A row of the catalogue."""

    pattern: str
    type: str
    life: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]


CATALOGUE: Final = (
    Key("talowa:partitions", "string", "forever", ("gateway", "router"), ("gateway", "router")),
    Key("talowa:{pNN}:in", "stream", "until acknowledged", ("gateway", "router"), ("router", "gateway")),
    Key("talowa:{pNN}:lease", "string", "3 s, renewed twice a second", ("router",), ("router", "gateway")),
    Key("talowa:{pNN}:token", "string", "forever", ("router",), ("router",)),
    Key("talowa:{pNN}:seqs", "hash", "until saved", ("router",), ("router",)),
    Key("talowa:{pNN}:assigned", "hash", "until saved", ("router",), ("router",)),
    Key("talowa:{pNN}:recent:B", "hash", "20 min after the last message of its 10 min", ("router",), ("router",)),
    Key("talowa:{pNN}:receipts", "hash", "until saved", ("router",), ("router",)),
    Key("talowa:positions", "hash", "forever", ("router",), ("gateway",)),
    Key("talowa:routers", "sorted set", "a member 3 s, renewed twice a second", ("router",), ("router",)),
    Key(
        "talowa:gateways",
        "sorted set",
        "a member 6 s, renewed every 2 s",
        ("gateway", "presence"),
        ("presence", "gateway"),
    ),
    Key(
        "talowa:{figures}",
        "hash",
        "a field 6 s, renewed every 2 s",
        ("gateway", "router", "presence"),
        ("gateway",),
    ),
    Key(
        "talowa:{figures}:lapse",
        "sorted set",
        "a member 6 s, renewed every 2 s",
        ("gateway", "router", "presence"),
        ("gateway",),
    ),
    Key(
        "talowa:{gw:G}:down",
        "stream",
        "until taken, or its gateway is reaped",
        ("router", "gateway", "presence"),
        ("gateway", "presence"),
    ),
    Key("talowa:{dN}:seats", "hash", "until dropped or reaped", ("gateway", "presence"), ("router", "gateway")),
    Key("talowa:{dN}:seated:G", "set", "until dropped or reaped", ("gateway", "presence"), ("presence", "gateway")),
)
