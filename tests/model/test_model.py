"""Every promise holds in the model whatever happens in whatever order; and it notices when a guard is gone."""

from collections.abc import Callable
from typing import Final

import pytest

from tests.model.checker import check, follow
from tests.model.world import Bounds, Broker, Entry, Router, State, Without, beginning, delivered

W: Final = Without

WORLDS: Final = {
    "nothing happens": Bounds(messages=2),
    "a router is killed": Bounds(crashes=1),
    "two routers are killed": Bounds(crashes=2),
    "a router is paused": Bounds(lapses=1),
    "the store is away": Bounds(outages=1, resends=1),
    "the broker is wiped": Bounds(wipes=1, has_reader=False),
    "a failover loses the newest": Bounds(failovers=1),
    "the gateway is killed": Bounds(replacements=1, has_reader=False),
    "a router is killed while the store is away": Bounds(crashes=1, outages=1),
    "a failover while the store is away": Bounds(failovers=1, outages=1, has_reader=False),
}


@pytest.mark.parametrize("bounds", WORLDS.values(), ids=WORLDS.keys())
def test_every_promise_is_kept_in_every_order_of_events(bounds: Bounds) -> None:
    """And from every state that can be, all can still end well."""
    verdict = check(bounds)
    assert not verdict.broken, str(verdict)
    assert verdict.is_whole


def test_confirmations_are_kept_when_their_router_is_killed() -> None:
    """Whatever becomes of who took note of them."""
    bounds = Bounds(messages=2, crashes=1)
    verdict = check(bounds, start=delivered(bounds))
    assert not verdict.broken, str(verdict)


def long_ago(bounds: Bounds) -> State:
    """The first message was saved long ago, and is sent again; its owner knows how far the conversation is."""
    state = delivered(bounds._replace(messages=1))
    one = state.people
    people = one._replace(
        attempts=(*one.attempts, 0),
        open_attempts=(*one.open_attempts, 0),
        told=(*one.told, 0),
        told_other=(*one.told_other, 0),
    )
    again = Entry(1, is_send=True, what=0, attempt=2)
    return state._replace(
        people=people,
        left=bounds,
        broker=Broker(lease=(1, 0), lease_token=1, inbound=(again,)),
        routers=(Router(token=1, last_seq=1), Router()),
        next_entry=2,
        newest_token=1,
        has_forgotten=True,
    )


def taken_over(bounds: Bounds) -> State:
    """The partition has had three owners already, and the gateway heard the last of them."""
    state = beginning(bounds)
    return state._replace(broker=Broker(lease_token=3), newest_token=3, gateway_token=3)


def after(*way: str, start: Callable[[Bounds], State] = beginning) -> Callable[[Bounds], State]:
    """A world in which this has happened: what is broken is further away than there is time to look."""
    return lambda bounds: follow(start(bounds), *way)


ORDER_OF: Final = ("orders: order.lua", "saves", "publishes")
PAUSED_IN_MID_ORDER: Final = after(
    "asha sends a",
    "r1 takes the lease",
    "r1 reads a (1), and looks for it in the store",
    "r1 is paused, and its lease lapses!",
    "r2 takes the lease",
    "r2 reads a (1), and looks for it in the store",
    *(f"r2 {what}" for what in ORDER_OF),
    "asha sends b",
    "r2 reads b (1), and looks for it in the store",
    "r2 orders: order.lua",
    "r2 acknowledges: acknowledge.lua",
)
OWED: Final = after(
    "asha sends a",
    "r1 takes the lease",
    "r1 reads a (1), and looks for it in the store",
    *(f"r1 {what}" for what in ORDER_OF),
    "asha sends b",
    "r1 reads b (1), and looks for it in the store",
    "r1 orders: order.lua",
)
FAILED_OVER_IN_MID_SAVE: Final = after(
    "the replica has all up to here, and no more!",
    "asha sends a",
    "r1 takes the lease",
    "r1 reads a (1), and looks for it in the store",
    "r1 orders: order.lua",
    "a failover!",
    "asha sends b",
    "r2 takes the lease",
    "r2 reads b (1), and looks for it in the store",
)
FAILED_OVER: Final = after(
    "asha sends a",
    "r1 takes the lease",
    "r1 reads a (1), and looks for it in the store",
    "r1 orders: order.lua",
    "r1 saves",
    "the replica has all up to here, and no more!",
    "r1 publishes",
    "r1 acknowledges: acknowledge.lua",
    "the gateway takes what was said under token 1",
    "ravi's phone confirms 1",
    "r1 reads confirm 1, and looks for it in the store",
    *(f"r1 {what}" for what in ORDER_OF),
    "r1 acknowledges: acknowledge.lua",
    "a failover!",
)
WIPED_IN_MID_SAVE: Final = after(
    "asha sends a",
    "r1 takes the lease",
    "r1 reads a (1), and looks for it in the store",
    "r1 orders: order.lua",
    "the broker is wiped!",
    "asha sends b",
)
CONFIRMED: Final = after(
    "ravi's phone confirms 1",
    "r1 takes the lease",
    "r1 reads confirm 1, and looks for it in the store",
    *(f"r1 {what}" for what in ORDER_OF),
    "ravi's phone confirms 2",
    start=delivered,
)


# What each guard is for: without it, in this world, something is broken.
GUARDS: Final[dict[Without, tuple[Bounds, str, Callable[[Bounds], State]]]] = {
    W.FENCE_IN_ORDER: (Bounds(messages=3, lapses=1, has_reader=False), "seqs are 1, 2, 3", PAUSED_IN_MID_ORDER),
    W.FENCE_IN_ACKNOWLEDGE: (Bounds(messages=2, lapses=1), "what was confirmed", CONFIRMED),
    W.FENCE_AT_THE_GATEWAY: (Bounds(lapses=1, outages=1, has_reader=False), "no status goes back", beginning),
    W.SAVE_BEFORE_PUBLISH: (Bounds(), "sent is in the store", beginning),
    W.SAVE_BEFORE_ACKNOWLEDGE: (Bounds(messages=2, crashes=1, has_reader=False), "seqs are 1, 2, 3", beginning),
    W.PUBLISH_BEFORE_ACKNOWLEDGE: (Bounds(crashes=1), "end well", beginning),
    W.TRIM_UP_TO_WHAT_WAS_READ: (Bounds(messages=3, crashes=1, has_reader=False), "seqs are 1, 2, 3", OWED),
    W.REPLAY_FROM_THE_BEGINNING: (Bounds(crashes=1, has_reader=False), "end well", beginning),
    W.REMEMBERED_PLACES: (Bounds(crashes=1, has_reader=False), "seqs are 1, 2, 3", beginning),
    W.PLACES_ABOVE_THE_STORE: (Bounds(messages=2, failovers=1, has_reader=False), "end well", FAILED_OVER_IN_MID_SAVE),
    W.COUNTER_FROM_THE_STORE: (Bounds(messages=2, outages=1, confirms=False), "one place", beginning),
    W.ONE_KEY_ONE_PLACE: (Bounds(messages=2, outages=1, has_reader=False), "in the store once", long_ago),
    W.ONE_PLACE_ONE_MESSAGE: (Bounds(messages=2, wipes=1, has_reader=False), "sent is in the store", WIPED_IN_MID_SAVE),
    W.VOID_PLACES: (Bounds(messages=2, outages=1, has_reader=False), "seqs are 1, 2, 3", long_ago),
    W.RECENT_PLACES: (Bounds(resends=1, outages=1, confirms=False), "one place", beginning),
    W.SAVED_UNTIL_ACKNOWLEDGED: (Bounds(resends=1, outages=1, confirms=False), "no status goes back", beginning),
    W.TOKENS_FROM_THE_CLOCK: (Bounds(wipes=1, has_reader=False), "end well", taken_over),
    W.RECEIPTS_IN_THE_JOURNAL: (Bounds(), "what was confirmed", delivered),
    W.PARKED_STAYS_ON_THE_STREAM: (Bounds(outages=1, has_reader=False), "queued is on the stream", beginning),
    W.STATUSES_ONLY_RISE: (Bounds(crashes=1, outages=1), "no status goes back", beginning),
    W.READ_WHILE_CURRENT: (Bounds(lapses=1), "no status goes back", beginning),
    W.START_OVER_WHEN_CUT: (Bounds(failovers=1), "end well", FAILED_OVER),
}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_the_checker_notices_when_a_guard_is_gone(guard: Without) -> None:
    """It tells what is broken, and the shortest way there."""
    bounds, promise, start = GUARDS[guard]
    verdict = check(bounds, guard, start=start(bounds))
    assert promise in verdict.broken, str(verdict)


REFUSED_FIRST: Final = after(
    "asha sends a",
    "asha sends b",
    "r1 takes the lease",
    "the store is away!",
    "r1 reads a (1), and looks for it in the store",
    "r1 orders: order.lua",
    "the store is back",
    "r1 reads b (1), and looks for it in the store",
    "r1 orders: order.lua",
    "r1 is killed!",
    "r1 takes the lease",
    "r1 reads a (1), and looks for it in the store",
)


@pytest.mark.xfail(strict=True, reason="known, and left: docs/adr/0020")
def test_a_message_that_was_refused_before_one_that_was_placed_leaves_no_gap() -> None:
    """Its next owner reads it first, and by itself: what was placed then stands below what the store holds."""
    bounds = Bounds(messages=2, crashes=1, outages=1, has_reader=False)
    verdict = check(bounds, start=REFUSED_FIRST(bounds))
    assert not verdict.broken, str(verdict)
