"""The table: what must be zero, what is not promised, and which faults a wait is put down to."""

from typing import Any

import pytest

from libs.wire import names
from tests.chaos.faults import Happening
from tests.chaos.people import Letter
from tests.chaos.plan import Fault
from tests.chaos.verdict import Verdict, judge, waits
from tests.support.history import History

_PAIR = names.direct("asha", "bala")


def history(*statuses: str, seqs: tuple[int, ...] = ()) -> History:
    """Asha writes, each message answered with one of `statuses`; Bala sees them."""
    made = History(users={"asha1": "asha", "bala1": "bala"})
    for number, status in enumerate(statuses):
        seq = seqs[number] if seqs else number + 1
        sent = made.record_send("asha1", {"clientId": f"c{number}", "recipientId": "bala"})
        common = {"conversationId": _PAIR, "seq": seq, "clientId": f"c{number}"}
        made.record_answer(sent, {"ok": True, "messageId": f"m{number}", "status": status, **common})
        made.record_event("bala1", "new_message", {"id": f"m{number}", "senderId": "asha", **common})
    return made


def verdict(of: History, *, losses: tuple[int, ...] = (), **changed: Any) -> Verdict:
    given: dict[str, Any] = {"stuck": (), "turned_away": (), "unaccounted": 0.0} | changed
    return judge(of, (), (), expected={_PAIR: ("asha1", "bala1")}, losses=losses, **given)


def test_a_run_that_kept_every_promise_is_kept() -> None:
    """Zeros, and an unknown count of the unaccounted, which is no zero."""
    found = verdict(history("sent", "sent"))
    assert found.is_kept
    assert ("unaccounted", "0") in found.rows()
    unknown = verdict(history("sent"), unaccounted=None)
    assert unknown.is_kept
    assert ("unaccounted", "not counted") in unknown.rows()


@pytest.mark.parametrize(
    "changed",
    [{"stuck": ("x",)}, {"turned_away": ("x",)}, {"unaccounted": 1.0}],
    ids=lambda changed: next(iter(changed)),
)
def test_anything_that_must_be_zero_breaks_it(changed: dict[str, Any]) -> None:
    """Each by itself."""
    assert not verdict(history("sent"), **changed).is_kept


def test_a_place_given_twice_is_doubled_unless_it_was_only_queued_when_the_broker_forgot() -> None:
    """`queued` while the store is away does not survive the broker's memory; `sent` does, whatever happens."""
    later = 1 << 60
    only_queued = history("queued", "sent", seqs=(1, 1))
    assert verdict(only_queued).promises["doubled"]
    assert verdict(only_queued, losses=(0,)).promises["doubled"]
    excused = verdict(only_queued, losses=(later,))
    assert excused.is_kept
    assert excused.outside == 1
    assert verdict(history("sent", "sent", seqs=(1, 1)), losses=(later,)).promises["doubled"]


def test_a_message_that_was_only_queued_leaves_no_gap() -> None:
    """It was seen in its place, and the place was not given again."""
    assert verdict(history("sent", "queued", "sent"), losses=(1 << 60,)).is_kept
    assert verdict(history("sent", "sent", seqs=(1, 3))).promises["gaps"]


def test_a_wait_is_put_down_to_what_went_on() -> None:
    """The fault that is over for long has no part in it; without any, it is nobody's."""
    happened = [Happening(Fault(0, "kill"), 1_000, 1_000), Happening(Fault(0, "pause"), 50_000, 60_000)]
    letters = [
        Letter("a→b", "1", 900, 900, 3_900),
        Letter("a→b", "2", 2_000, 2_000, 4_000),
        Letter("a→b", "3", 55_000, 57_000, 58_000),
        Letter("a→b", "4", 90_000, 90_000, 90_100),
    ]
    found = waits(letters, happened)
    assert found["kill"].somebody_s == 3.0
    assert found["pause"].somebody_s == 1.0
    assert found["none"].somebody_s == 0.1
    assert found["kill"].nobody_s < 3.0
