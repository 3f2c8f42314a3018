"""Lines of the ledger: what is in them, and above all what is not."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from libs.wire import names
from services.router import ledger
from services.router.ledger import Confirmed, Done, Notes, Placed, Roll, Settled
from tests.unit.services.router.fakes import FIELD, RAMA_SITA, message

HIDDEN = names.direct("anon-0123456789abcdef0123", "ravi")
TEAM = frozenset({"rama", "sita", "lata"})


def lines(*entries: dict[bytes, bytes]) -> ledger.Lines:
    return ledger.read([(f"{number}-0".encode(), fields) for number, fields in enumerate(entries, start=1)])


def settled(notes: Notes) -> Settled:
    (found,) = lines({ledger.SETTLED: notes.take_settled()}).settled
    return found


def test_a_line_names_the_message_and_how_many_it_is_for() -> None:
    """One in a direct conversation; in a group all but who wrote it, and who they are."""
    notes = Notes(10)
    direct = notes.placed(message(1).key, RAMA_SITA, None, is_anonymous=False)
    group = notes.placed(message(2, FIELD).key, FIELD, TEAM, is_anonymous=False)
    (roll,) = notes.take_rolls()
    found = lines({roll: b"", direct: b"1"}, {group: b"7"})
    first, second = found.entered
    assert (first.key, first.seq, first.line.recipients, first.line.roll) == (message(1).key, 1, 1, b"")
    assert (second.key, second.seq, second.line.recipients) == (message(2, FIELD).key, 7, 2)
    assert found.rolls == {second.line.roll: ("lata", "rama", "sita")}
    assert (found.last_id, second.at_ms) == ("2-0", 2)


def test_the_members_of_a_group_are_written_down_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And again when they changed, or after a while, so that a message finds them in its window; not if too many."""
    notes, now = Notes(3), [100.0]
    monkeypatch.setattr(f"{ledger.__name__}.time.monotonic", lambda: now[0])

    def asked(members: frozenset[str]) -> int:
        notes.placed(message(1, FIELD).key, FIELD, members, is_anonymous=False)
        return len(notes.take_rolls())

    assert [asked(TEAM), asked(TEAM), asked(frozenset(TEAM | set()))] == [1, 0, 0]
    assert [asked(TEAM - {"lata"}), asked(TEAM)] == [1, 1]
    now[0] += ledger.ROLL_AGAIN_S + 1
    assert [asked(TEAM), asked(TEAM)] == [1, 0]
    assert asked(TEAM | {"ravi"}) == 0, "too many"


def test_who_wrote_anonymously_shows_in_no_line() -> None:
    """Not by name, not as the one who is missing from a list or a number, not by the gateway, not by a device."""
    notes = Notes(10)
    line = notes.placed(message(1, FIELD).key, FIELD, TEAM, is_anonymous=True)
    assert notes.take_rolls() == []
    assert msgspec.msgpack.decode(line, type=Placed).recipients == len(TEAM), "its author is one of them"
    in_group = message(1, FIELD, "anon-00000000000000000000", is_anonymous=True)
    in_direct = message(1, HIDDEN, "anon-0123456789abcdef0123", is_anonymous=True)
    for one in (in_group, in_direct):
        notes.done(one, "g-of-the-author", took_ms=5, read_ms=5, saved_ms=5, published_ms=5, told=1)
    notes.confirmed(in_group, ("rama",), "g-of-the-author", 9)
    notes.confirmed(in_direct, ("anon-0123456789abcdef0123",), "g-of-the-author", 9)
    notes.confirmed(in_direct, ("ravi",), "g-of-ravi", 9)
    packed = notes.take_settled()
    found = lines({ledger.SETTLED: packed}).settled[0]
    assert found.gateways == ()
    assert [done.gateway for done in found.done] == [ledger.NOWHERE] * 2
    assert [(one.key.hex(), one.users, one.gateway) for one in found.confirmed] == [(in_direct.key, (), ledger.NOWHERE)]
    for word in (b"rama", b"author", b"g-of", b"ravi"):
        assert word not in packed


def test_what_was_said_is_said_once() -> None:
    """The next line begins anew, with times and gateways of its own."""
    notes = Notes(10)
    assert notes.take_settled() == b""
    notes.done(message(1), "g1", took_ms=100, read_ms=101, saved_ms=None, published_ms=103, told=1)
    notes.confirmed(message(1, FIELD), ("sita", "rama"), "g2", 90)
    first = settled(notes)
    assert first == Settled(
        100,
        ("g1", "g2"),
        (Done(bytes.fromhex(message(1).key), 1, 0, 1, None, 3, 0),),
        (Confirmed(bytes.fromhex(message(1, FIELD).key), ("sita",), -10, 1),),
    )
    notes.confirmed(message(2), ("sita",), "g3", 200)
    assert settled(notes) == Settled(200, ("g3",), (), (Confirmed(bytes.fromhex(message(2).key), (), 0, 0),))
    assert notes.take_settled() == b""


def test_lines_of_a_newer_version_are_passed_over() -> None:
    """A reader that does not know them reads the rest."""
    notes = Notes(10)
    line = notes.placed(message(1).key, RAMA_SITA, None, is_anonymous=False)
    unknown = msgspec.msgpack.encode(["x", 1])
    found = lines({unknown: b"", ledger.SETTLED: b"\xc1", line: b"3"})
    assert [(one.key, one.seq) for one in found.entered] == [(message(1).key, 3)]
    assert ledger.read([]) == ledger.Lines([], {}, [], None)


@given(
    some.lists(
        some.builds(Placed, some.binary(min_size=16, max_size=16), some.text(), some.integers(0, 10**6), some.binary())
        | some.builds(Roll, some.binary(), some.lists(some.text()).map(tuple)),
        unique_by=msgspec.msgpack.encode,
    ),
    some.booleans(),
)
def test_what_is_written_is_read(written: list[Placed | Roll], is_flat: bool) -> None:
    """In the shape of either version of the protocol; the size is what it takes."""
    fields = {msgspec.msgpack.encode(line): str(number).encode() for number, line in enumerate(written)}
    flat = [word for pair in fields.items() for word in pair]
    reply = [(b"5-1", flat if is_flat else fields)]
    found = ledger.read(reply)
    assert [one.line for one in found.entered] == [line for line in written if isinstance(line, Placed)]
    assert [one.seq for one in found.entered] == [n for n, line in enumerate(written) if isinstance(line, Placed)]
    assert found.rolls == {line.digest: line.members for line in written if isinstance(line, Roll)}
    assert ledger.size(reply[0]) == sum(map(len, flat))
