"""What a conversation's document says of its log is never less than what was saved, and a place is given once."""

from typing import Any, Final

import hypothesis.strategies as st
from google.cloud.firestore_v1.types import write
from hypothesis import given, settings

from libs.storage.firestore import values
from libs.storage.firestore.values import Stamp
from services.router.firestore.marks import CLOSE_AFTER_S, Marks

_Write: Final = write.Write.pb()
_WHERE: Final = "direct:rama:sita"


class Document:
    """A conversation's document and its log, as Firestore has them: every write gives another version."""

    def __init__(self) -> None:
        self.now = 0.0
        self.version = 0
        self.writes = 0
        self.is_open: Any = None
        self.last_seq = 0
        self.taken: set[int] = set()

    @property
    def stamp(self) -> Stamp | None:
        return Stamp(self.version, 0) if self.version else None

    def holds(self, given: bytes) -> bool:
        """Whether what a write or a check is conditional on does."""
        condition = _Write.FromString(given).current_document
        if condition.HasField("update_time"):
            return bool(condition.update_time.seconds == self.version)
        return bool(condition.exists == (self.version > 0))

    def apply(self, given: bytes) -> None:
        read = _Write.FromString(given)
        (maximum, _) = read.update_transforms
        self.is_open = values.plain(read.update.fields["isOpen"])
        self.last_seq = max(self.last_seq, values.plain(maximum.maximum))
        self.version += 1
        self.writes += 1


class Process:
    """Someone who saves, step by step, as `Messages` does; between the steps anybody else may do anything."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.marks = Marks(lambda where: f"d/{where}", lambda: document.now)
        self.closing: bytes | None = None
        self.read: tuple[Any, Stamp | None, int] | None = None
        self.took: Stamp | None = None

    def meet(self) -> None:
        """Read the document; take it, if it is open; then look at the log."""
        document = self.document
        if document.is_open is None or document.is_open is False:
            self.marks.met(_WHERE, document.stamp, document.last_seq)
            return
        assert document.stamp is not None
        take = self.marks.take(_WHERE, document.stamp)
        assert document.holds(take)
        document.apply(take)
        self.marks.met(_WHERE, document.stamp, max(document.taken, default=0), is_open=True)

    def save(self, after_s: float = 0.0) -> int | None:
        """Save at the next place that this process believes to be free; None if it could not."""
        self.document.now += after_s
        if self.marks.unknown([_WHERE]):
            self.meet()
        seq = self.marks.last_seq(_WHERE) + 1
        unchanged, writes = self.marks.writes({_WHERE: seq})
        marked = [each for each, _ in writes.values()]
        checks = [values.verify(name, version) for name, version in unchanged.items()]
        if not all(map(self.document.holds, [*checks, *marked])):
            self.marks.forget([_WHERE])
            return None
        assert seq not in self.document.taken
        self.document.taken.add(seq)
        for each in marked:
            self.document.apply(each)
        written = {where: (is_open, Stamp(self.document.version, 0)) for where, (_, is_open) in writes.items()}
        self.marks.wrote({_WHERE: seq}, written)
        self.marks.release([_WHERE])
        return seq

    def save_unheard(self) -> None:
        """A commit comes through, and its second try, of which there is an answer, finds the message there."""
        if self.marks.unknown([_WHERE]):
            self.meet()
        seq = self.marks.last_seq(_WHERE) + 1
        unchanged, writes = self.marks.writes({_WHERE: seq})
        marked = [each for each, _ in writes.values()]
        checks = [values.verify(name, version) for name, version in unchanged.items()]
        if all(map(self.document.holds, [*checks, *marked])):
            self.document.taken.add(seq)
            for each in marked:
                self.document.apply(each)
        if not self.marks.stands(_WHERE, self.document.stamp):
            self.marks.forget([_WHERE])
            self.meet()
        if seq in self.document.taken:
            self.marks.saw(_WHERE, seq)
        self.marks.release([_WHERE])

    def begin_closing(self, *, is_end: bool = False) -> None:
        """Make the write that closes, if it is time."""
        if self.closing is None:
            self.closing = self.marks.idle(1, is_end=is_end).get(_WHERE)

    def end_closing(self) -> None:
        """It comes through, or somebody else wrote meanwhile."""
        if self.closing is None:
            return
        is_closed = self.document.holds(self.closing)
        if is_closed:
            self.document.apply(self.closing)
        self.marks.closed({_WHERE: self.document.stamp if is_closed else None}, [_WHERE])
        self.closing = None

    def close(self, *, is_end: bool = False) -> None:
        self.begin_closing(is_end=is_end)
        self.end_closing()


def test_a_message_now_and_then_costs_one_write() -> None:
    """The first of a process too: exact, and never open."""
    process = Process(Document())
    for seq in range(1, 12):
        assert process.save(30.0) == seq
        assert (process.document.is_open, process.document.last_seq) == (False, seq)
    assert process.document.writes == 11


def test_a_busy_conversation_is_written_twice() -> None:
    """The second message within seconds says that there may be more; those that follow only compare the version."""
    process = Process(Document())
    for _ in range(100):
        process.save(0.2)
    assert (process.document.is_open, process.document.writes) == (True, 2)


def test_a_quiet_one_is_closed_with_its_exact_end() -> None:
    """Once."""
    process = Process(Document())
    process.save()
    process.save(0.1)
    process.save(0.1)
    process.close()
    assert process.document.is_open
    process.document.now += CLOSE_AFTER_S
    process.close()
    assert (process.document.is_open, process.document.last_seq) == (False, 3)
    process.close()
    assert process.document.writes == 3
    assert process.save(30.0) == 4


def test_after_a_commit_without_an_answer_nothing_is_believed() -> None:
    """The document is taken anew, which ends a commit that may still be on its way."""
    process = Process(Document())
    process.save()
    process.save(0.1)
    unchanged, _ = process.marks.writes({_WHERE: 3})
    process.marks.forget([_WHERE])
    assert process.save(0.1) == 3
    assert unchanged
    assert process.document.stamp not in unchanged.values()


def test_a_message_whose_commit_had_no_answer_is_before_the_end() -> None:
    """Its second try finds it, and the document is closed behind it."""
    process = Process(Document())
    process.save()
    process.save(0.1)
    process.save_unheard()
    process.close(is_end=True)
    assert (process.document.is_open, process.document.last_seq) == (False, 3)


def test_what_is_being_saved_is_not_closed_and_what_is_being_closed_is_not_saved() -> None:
    """Either would leave a message beyond the end that the document tells."""
    process = Process(Document())
    process.save()
    process.save(0.1)
    process.document.now += CLOSE_AFTER_S
    process.marks.writes({_WHERE: 3})
    assert process.marks.idle(10) == {}
    process.marks.release([_WHERE])
    assert len(process.marks.idle(10)) == 1
    assert process.marks.unknown([_WHERE]) == [_WHERE]


def test_at_the_end_all_are_closed() -> None:
    """However lately they were written to."""
    process = Process(Document())
    process.save()
    process.save(0.1)
    process.close(is_end=True)
    assert process.document.is_open is False


_STEPS: Final = ("save", "save_unheard", "meet", "begin_closing", "end_closing")


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(_STEPS), st.sampled_from([0.0, 1.0, 20.0])), max_size=60))
def test_whoever_saves_closes_and_sleeps_when_no_place_is_given_twice(steps: list[tuple[int, str, float]]) -> None:
    """Three processes, each of which may believe for ever what it knew once; a closed document is never behind."""
    document = Document()
    processes = [Process(document) for _ in range(3)]
    for number, step, after_s in steps:
        document.now += after_s
        if step != "meet" or processes[number].marks.unknown([_WHERE]):
            getattr(processes[number], step)()
        assert document.taken == set(range(1, len(document.taken) + 1))
        if document.is_open is False:
            assert document.last_seq == len(document.taken)
