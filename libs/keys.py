"""Every Redis key and stream name: one function each, with its type, its life and who uses it.

Keys that one script touches share a hash tag (`{p07}`, `{d3}`, `{gw:…}`), so that a cluster can run
it. `docs/redis.md` tells the same at more length; a test holds the two together through `CATALOGUE`.
"""

from typing import Final, NamedTuple

_PREFIX: Final = "talowa"

# Seats are spread over a few hashes, so that locating a batch of users is one HMGET a hash, and a
# cluster of brokers can share them. Fixed: changing it means forgetting who is where.
DIRECTORY_SHARDS: Final = 8
# What is counted lately is spread likewise: one script a shard counts a batch.
LIMIT_SHARDS: Final = 8


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


def moves() -> str:
    """Up to where the record of who lives where has been read for those who moved while signed in."""
    return f"{_PREFIX}:moves"


def seqs(partition: int) -> str:
    """The last seq given in each conversation that has messages on their way to the store."""
    return f"{_PREFIX}:{{p{partition:02d}}}:seqs"


def assigned(partition: int) -> str:
    """The seq of each message on its way to the store, by message key."""
    return f"{_PREFIX}:{{p{partition:02d}}}:assigned"


def clock(partition: int) -> str:
    """The last server time given to a message, which no later one may be before."""
    return f"{_PREFIX}:{{p{partition:02d}}}:clock"


def recent(partition: int, bucket: int) -> str:
    """Messages saved in one window of time, by message key: repeats are known while the store is away."""
    return f"{_PREFIX}:{{p{partition:02d}}}:recent:{bucket}"


def receipts(partition: int) -> str:
    """Receipts taken but not yet in the store, by conversation and user."""
    return f"{_PREFIX}:{{p{partition:02d}}}:receipts"


def pushes(partition: int) -> str:
    """Messages that were sent, by when whoever does not have them yet is pushed."""
    return f"{_PREFIX}:{{p{partition:02d}}}:pushes"


def pushes_taken(partition: int) -> str:
    """Messages and broadcasts of which pushes were made, by when."""
    return f"{_PREFIX}:{{p{partition:02d}}}:pushes:taken"


def push_jobs(partition: int) -> str:
    """Pushes on their way, by whom they are for and what they are about."""
    return f"{_PREFIX}:{{p{partition:02d}}}:pushes:jobs"


def ledger(partition: int) -> str:
    """What became of the messages of the last hour and a bit: a line for each that has a place, and one for its way."""
    return f"{_PREFIX}:{{p{partition:02d}}}:ledger"


def audited(partition: int) -> str:
    """Up to where the ledger was compared with the store and is settled."""
    return f"{_PREFIX}:{{p{partition:02d}}}:audited"


def routers() -> str:
    """Live routers and when each lapses."""
    return f"{_PREFIX}:routers"


def gateways() -> str:
    """Live gateways and when each lapses."""
    return f"{_PREFIX}:gateways"


def given_up(service: str) -> str:
    """Which process of a service gave itself up lately: no other of its kind may."""
    return f"{_PREFIX}:given-up:{service}"


def figures() -> str:
    """What each process says of itself, for `/status`."""
    return f"{_PREFIX}:{{figures}}"


def figures_lapse() -> str:
    """When what each process said lapses."""
    return f"{_PREFIX}:{{figures}}:lapse"


def rebalance() -> str:
    """What is to be done so that each gateway has its share of the sockets."""
    return f"{_PREFIX}:rebalance"


def downlink(gateway: str) -> str:
    """Frames from routers for one gateway; holds what it has not taken."""
    return f"{_PREFIX}:{{gw:{gateway}}}:down"


def alarms(gateway: str) -> str:
    """Broadcasts for one gateway, apart from its other frames, so that they wait behind nothing."""
    return f"{_PREFIX}:{{gw:{gateway}}}:alarms"


def seats(shard: int) -> str:
    """Which gateways each signed-in user is on."""
    return f"{_PREFIX}:{{d{shard}}}:seats"


def seated(shard: int, gateway: str) -> str:
    """The users one gateway has seats for, so that they can be dropped when it dies."""
    return f"{_PREFIX}:{{d{shard}}}:seated:{gateway}"


def where(shard: int) -> str:
    """Where each signed-in user lives."""
    return f"{_PREFIX}:{{d{shard}}}:where"


def residents(shard: int) -> str:
    """How many signed-in users live in each place."""
    return f"{_PREFIX}:{{d{shard}}}:residents"


def changes(shard: int) -> str:
    """Users whom presence is to look at, and when."""
    return f"{_PREFIX}:{{d{shard}}}:changes"


def left(shard: int) -> str:
    """When each user was last seen whose last seat is gone and who was not announced yet."""
    return f"{_PREFIX}:{{d{shard}}}:left"


def chosen(shard: int) -> str:
    """Who wants to be seen as away or busy while they are here."""
    return f"{_PREFIX}:{{d{shard}}}:chosen"


def presence(shard: int) -> str:
    """How each user was last announced: status, when, last seen."""
    return f"{_PREFIX}:{{d{shard}}}:presence"


def watchers(shard: int) -> str:
    """From which gateways each user is watched."""
    return f"{_PREFIX}:{{d{shard}}}:watchers"


def watched(shard: int, gateway: str) -> str:
    """The users one gateway watches, so that it can be forgotten when it dies."""
    return f"{_PREFIX}:{{d{shard}}}:watched:{gateway}"


def pending(shard: int) -> str:
    """Who was announced and is not published to their watchers yet."""
    return f"{_PREFIX}:{{d{shard}}}:pending"


def announcer(shard: int) -> str:
    """Which copy of presence announces."""
    return f"{_PREFIX}:{{d{shard}}}:announcer"


def counts(shard: int) -> str:
    """How many users are seen as what."""
    return f"{_PREFIX}:{{d{shard}}}:counts"


def unsaved(shard: int) -> str:
    """When users were last seen, on its way to the store."""
    return f"{_PREFIX}:{{d{shard}}}:unsaved"


def taken(limit_shard: int, limit: str, digest: str) -> str:
    """What was counted lately for one person or address (by a hash of whom), under the limit of this name."""
    return f"{_PREFIX}:{{r{limit_shard}}}:{limit}:{digest}"


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
    Key("talowa:{pNN}:clock", "string", "forever", ("router",), ("router",)),
    Key("talowa:{pNN}:recent:B", "hash", "20 min after the last message of its 10 min", ("router",), ("router",)),
    Key("talowa:{pNN}:receipts", "hash", "until saved", ("router",), ("router",)),
    Key("talowa:{pNN}:pushes", "sorted set", "until pushes were made of it", ("router",), ("router",)),
    Key("talowa:{pNN}:pushes:taken", "sorted set", "a member 20 min", ("router",), ("router",)),
    Key("talowa:{pNN}:pushes:jobs", "hash", "until sent or given up", ("router",), ("router",)),
    Key("talowa:{pNN}:ledger", "stream", "65 min, in LEDGER_MAX_MB", ("router",), ("router",)),
    Key("talowa:{pNN}:audited", "string", "forever", ("router",), ("router",)),
    Key("talowa:positions", "hash", "forever", ("router",), ("gateway",)),
    Key("talowa:moves", "string", "forever", ("router",), ("router",)),
    Key("talowa:routers", "sorted set", "a member 3 s, renewed twice a second", ("router",), ("router",)),
    Key(
        "talowa:gateways",
        "sorted set",
        "a member 6 s, renewed every 2 s",
        ("gateway", "presence"),
        ("presence", "gateway"),
    ),
    Key("talowa:given-up:S", "string", "30 s", ("gateway", "router"), ("gateway", "router")),
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
    Key("talowa:rebalance", "string", "5 min after it was ordered", ("gateway",), ("gateway",)),
    Key(
        "talowa:{gw:G}:down",
        "stream",
        "until taken, or its gateway is reaped",
        ("router", "gateway", "presence"),
        ("gateway", "presence"),
    ),
    Key(
        "talowa:{gw:G}:alarms",
        "stream",
        "until taken, or its gateway is reaped",
        ("router", "gateway", "presence"),
        ("gateway", "presence"),
    ),
    Key("talowa:{dN}:seats", "hash", "until dropped or reaped", ("gateway", "presence"), ("router", "gateway")),
    Key("talowa:{dN}:seated:G", "set", "until dropped or reaped", ("gateway", "presence"), ("presence", "gateway")),
    Key("talowa:{dN}:where", "hash", "until a user's last seat goes", ("gateway", "presence"), ("gateway", "presence")),
    Key("talowa:{dN}:residents", "hash", "until nobody there has a seat", ("gateway", "presence"), ("router",)),
    Key("talowa:{dN}:changes", "sorted set", "until looked at", ("gateway", "presence"), ("presence",)),
    Key("talowa:{dN}:left", "hash", "until announced", ("gateway", "presence"), ("presence",)),
    Key("talowa:{dN}:chosen", "hash", "until they are offline", ("gateway", "presence"), ("presence",)),
    Key("talowa:{dN}:presence", "hash", "7 days after going offline", ("presence",), ("presence", "gateway")),
    Key("talowa:{dN}:watchers", "hash", "until nobody watches", ("gateway", "presence"), ("presence",)),
    Key("talowa:{dN}:watched:G", "set", "until nobody watches, or reaped", ("gateway", "presence"), ("presence",)),
    Key("talowa:{dN}:pending", "hash", "until published", ("presence",), ("presence",)),
    Key("talowa:{dN}:announcer", "string", "1 s, renewed ten times a second", ("presence",), ("presence",)),
    Key("talowa:{dN}:counts", "hash", "forever", ("presence",), ("presence", "gateway")),
    Key("talowa:{dN}:unsaved", "hash", "until saved", ("presence",), ("presence",)),
    Key("talowa:{rN}:L:H", "sorted set", "60 s after the last", ("router", "gateway"), ("router", "gateway")),
)
