"""What there is: one partition with one conversation in it, its routers, a broker, a store, a gateway, two people.

Asha writes on one phone and has another; Ravi reads. Messages are numbered from 0; tokens, entries and seqs from 1.
Sets of seqs are bits. Names are those of the code that is modelled.
"""

from enum import Flag, auto
from typing import Final, NamedTuple

NOBODY: Final = (0, -1)
UNKNOWN: Final = -1
# What the store has at a place that was left void.
VOID: Final = -1
# How far a device was told that a message has come.
REFUSED, QUEUED, SENT, DELIVERED = 0, 1, 2, 3
STATUSES: Final = {REFUSED: "refused", QUEUED: "queued", SENT: "sent", DELIVERED: "delivered"}


class Without(Flag):
    """A guard that is taken out, to see what it is for."""

    NOTHING = 0
    FENCE_IN_ORDER = auto()
    FENCE_IN_ACKNOWLEDGE = auto()
    FENCE_AT_THE_GATEWAY = auto()
    SAVE_BEFORE_PUBLISH = auto()
    SAVE_BEFORE_ACKNOWLEDGE = auto()
    PUBLISH_BEFORE_ACKNOWLEDGE = auto()
    TRIM_UP_TO_WHAT_WAS_READ = auto()
    REPLAY_FROM_THE_BEGINNING = auto()
    REMEMBERED_PLACES = auto()
    PLACES_ABOVE_THE_STORE = auto()
    COUNTER_FROM_THE_STORE = auto()
    ONE_KEY_ONE_PLACE = auto()
    ONE_PLACE_ONE_MESSAGE = auto()
    VOID_PLACES = auto()
    RECENT_PLACES = auto()
    SAVED_UNTIL_ACKNOWLEDGED = auto()
    REFUSED_WHERE_UNSURE = auto()
    TOKENS_FROM_THE_CLOCK = auto()
    RECEIPTS_IN_THE_JOURNAL = auto()
    PARKED_STAYS_ON_THE_STREAM = auto()
    STATUSES_ONLY_RISE = auto()
    READ_WHILE_CURRENT = auto()
    START_OVER_WHEN_CUT = auto()


class Bounds(NamedTuple):
    """How large a world: messages, and how often each thing may go wrong."""

    messages: int = 1
    routers: int = 2
    resends: int = 0  # before there was time for an answer
    crashes: int = 0  # of routers
    lapses: int = 0  # of leases whose owner does not know it: it was paused, or cut off
    wipes: int = 0  # of the broker
    failovers: int = 0  # to a replica that had not all
    outages: int = 0  # of the store
    replacements: int = 0  # of the gateway, which was killed
    forgets: int = 0  # of the places that the broker remembers for a while after the save
    has_reader: bool = True  # else nothing is shown to anybody
    confirms: bool = True  # else Ravi only looks


class Entry(NamedTuple):
    """One entry of the inbound stream: a `Send` of a message, or Ravi's `Confirm` of a seq."""

    id: int
    is_send: bool
    what: int
    attempt: int


class Verdict(NamedTuple):
    message: int
    attempt: int
    seq: int
    is_new: bool = False
    was_placed: bool = False
    is_recent: bool = False
    is_queued: bool = False


class Batch(NamedTuple):
    """A `Work`; `stage` is how far it is: looked, decided, saved or away (the store was)."""

    entries: tuple[Entry, ...]
    is_replay: bool
    stage: str
    is_store_away: bool = False
    verdicts: tuple[Verdict, ...] = ()

    @property
    def last_id(self) -> int:
        return self.entries[-1].id


class Owed(NamedTuple):
    up_to: int
    placed: tuple[tuple[int, int], ...]
    receipt: int


class Router(NamedTuple):
    """A router and its `Partition`, while it thinks that it owns it (token not 0)."""

    token: int = 0
    is_lapsed: bool = False  # it was paused for longer than its lease
    is_cut: bool = False  # the broker that it was connected to is not the one that there is
    position: int = 0
    answered_up_to: int = 0
    last_seq: int = UNKNOWN
    unsaved: tuple[tuple[int, int], ...] = ()
    saved: tuple[tuple[int, int], ...] = ()
    reading: Batch | None = None
    # The first is being completed.
    decided: tuple[Batch, ...] = ()
    parked: tuple[Batch, ...] = ()
    is_unparking: bool = False
    owed: Owed | None = None
    untold: tuple[int, ...] = ()
    # Ravi's receipt: is it at hand, what it says, whether the next acknowledgement writes it, what the store is owed.
    is_loaded: bool = False
    known: int = 0
    unjournaled: int = 0
    journal: int = 0
    orphans: int = 0

    @property
    def is_idle(self) -> bool:
        return not (self.reading or self.decided or self.parked or self.owed)


class Broker(NamedTuple):
    """All that is lost when it is wiped. `downlink` is None while the gateway has no stream."""

    lease: tuple[int, int] = NOBODY
    lease_token: int = 0
    inbound: tuple[Entry, ...] = ()
    seq: int = 0
    assigned: tuple[tuple[int, int], ...] = ()
    recent: tuple[tuple[int, int], ...] = ()
    journal: int = 0
    downlink: "tuple[Section, ...] | None" = ()


class Answer(NamedTuple):
    message: int
    attempt: int
    status: int


class Status(NamedTuple):
    message: int
    status: int
    to_all: bool


class Emit(NamedTuple):
    message: int
    seq: int
    is_saved: bool


class Section(NamedTuple):
    token: int
    frames: tuple[Answer | Status | Emit, ...]


class Store(NamedTuple):
    is_away: bool = False
    log: tuple[tuple[int, int], ...] = ()  # (seq, message or VOID), by seq
    receipt: int = 0

    @property
    def last_seq(self) -> int:
        return self.log[-1][0] if self.log else 0

    def seq_of(self, message: int) -> int:
        return next((seq for seq, there in self.log if there == message), 0)


class People(NamedTuple):
    """What Asha's two phones were told of each message, and what Ravi was shown (with what was only queued marked)."""

    attempts: tuple[int, ...]
    open_attempts: tuple[int, ...]  # those whose answer may still be read, as bits
    told: tuple[int, ...]
    told_other: tuple[int, ...]
    shown: tuple[Emit, ...] = ()
    confirmed: int = 0
    must_sync: bool = False


class State(NamedTuple):
    broker: Broker
    routers: tuple[Router, ...]
    store: Store
    people: People
    gateway_token: int  # the newest that the gateway has seen
    left: Bounds  # what may still go wrong
    next_entry: int = 1
    newest_token: int = 0  # ever given: the clock's part in a token
    replica: Broker | None = None  # the broker as it was, for a failover that loses what came after
    noted: int = 0  # Ravi's confirmations that were acknowledged
    took_back: str = ""  # a device was told less than before
    took_sent_back: str = ""  # it was told that something is queued, after it was told that it is sent
    # Whether these have ever happened.
    was_lost: bool = False  # the broker's data, all or the newest
    was_away: bool = False  # the store
    was_cut: bool = False  # what was on its way to a device
    has_forgotten: bool = False


def beginning(bounds: Bounds) -> State:
    none = (0,) * bounds.messages
    return State(
        broker=Broker(),
        routers=(Router(),) * bounds.routers,
        store=Store(),
        people=People(none, none, none, none),
        gateway_token=0,
        left=bounds,
    )


def delivered(bounds: Bounds) -> State:
    """Everything was sent, saved, answered and shown; what is to come is Ravi's confirmations."""
    state = beginning(bounds)
    places = range(1, bounds.messages + 1)
    all_sent = (SENT,) * bounds.messages
    people = People((1,) * bounds.messages, (0,) * bounds.messages, all_sent, all_sent)
    return state._replace(
        store=Store(log=tuple((seq, seq - 1) for seq in places)),
        people=people._replace(shown=tuple(Emit(seq - 1, seq, is_saved=True) for seq in places)),
        next_entry=1,
    )
