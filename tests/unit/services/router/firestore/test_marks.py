"""What a conversation's document says of its log is never less than what was saved, whoever dies or sleeps when."""

from typing import Final

from google.cloud.firestore_v1.types import write

from libs.storage.firestore import values
from libs.storage.firestore.values import Stamp
from services.router.firestore.marks import BELIEF_S, CLOSE_AFTER_S, Marks

_Write: Final = write.Write.pb()
_WHERE: Final = "direct:rama:sita"


class Scene:
    """One process's marks, and what its commits made of the document."""

    def __init__(self) -> None:
        self.now = 0.0
        self.marks = Marks(lambda where: f"d/{where}", lambda: self.now)
        self.version = 0
        self.writes = 0
        self.is_open = False
        self.last_seq = 0

    def save(self, seq: int, after_s: float = 0.0) -> None:
        self.now += after_s
        writes = self.marks.writes({_WHERE: seq})
        for given, _ in writes.values():
            self._apply(given)
        written = {where: (is_open, Stamp(self.version, 0)) for where, (_, is_open) in writes.items()}
        self.marks.wrote({_WHERE: seq}, written)

    def close(self) -> None:
        for given in self.marks.idle(10).values():
            self._apply(given)
            self.marks.closed(_WHERE, Stamp(self.version, 0))

    def _apply(self, given: bytes) -> None:
        read = _Write.FromString(given)
        self.is_open = values.plain(read.update.fields["isOpen"])
        (maximum, _) = read.update_transforms
        self.last_seq = max(self.last_seq, values.plain(maximum.maximum))
        self.version += 1
        self.writes += 1


def test_a_conversation_that_a_process_meets_is_opened() -> None:
    """Whoever had it before may still believe that it is open, and save."""
    scene = Scene()
    scene.save(7)
    assert scene.is_open


def test_a_busy_conversation_is_written_every_few_seconds() -> None:
    """Not with each message, and it stays open meanwhile."""
    scene = Scene()
    for seq in range(1, 101):
        scene.save(seq, 0.2)
        assert scene.is_open
    assert scene.writes <= 1 + 20 / BELIEF_S


def test_a_quiet_one_is_closed_with_its_exact_end() -> None:
    """Once, and no sooner than those before it have stopped believing."""
    scene = Scene()
    scene.save(1)
    scene.save(2, 0.1)
    scene.close()
    opened = scene.is_open
    scene.now += CLOSE_AFTER_S
    scene.close()
    assert (opened, scene.is_open, scene.last_seq) == (True, False, 2)
    scene.close()
    assert scene.writes == 2


def test_a_message_now_and_then_costs_one_write() -> None:
    """In a conversation that the process knows: exact, and never open."""
    scene = Scene()
    scene.save(1)
    scene.now += CLOSE_AFTER_S
    scene.close()
    before = scene.writes
    for seq in range(2, 12):
        scene.save(seq, 30.0)
        assert not scene.is_open
        assert scene.last_seq == seq
    assert scene.writes == before + 10


def test_two_messages_within_seconds_open_it() -> None:
    """The second says that there may be a third, which then needs no write."""
    scene = Scene()
    scene.save(1)
    scene.now += CLOSE_AFTER_S
    scene.close()
    scene.save(2, 30.0)
    before = scene.writes
    for seq in range(3, 20):
        scene.save(seq, 0.2)
        assert scene.is_open
    assert scene.writes == before + 1


def test_after_a_commit_without_an_answer_nothing_is_believed() -> None:
    """The next one opens it anew."""
    scene = Scene()
    scene.save(1)
    scene.marks.forget([_WHERE])
    before = scene.writes
    scene.save(2, 0.1)
    assert scene.writes == before + 1
    assert scene.is_open


def test_a_document_that_somebody_else_wrote_is_not_closed() -> None:
    """It has their version: what they saved is not known here."""
    scene = Scene()
    scene.save(1)
    scene.now += CLOSE_AFTER_S
    (closing,) = scene.marks.idle(10).values()
    assert _Write.FromString(closing).current_document.update_time.seconds == scene.version
    scene.marks.closed(_WHERE, None)
    assert scene.marks.idle(10) == {}


def test_at_the_end_what_was_met_lately_stays_open() -> None:
    """Whoever had it before may not have stopped believing."""
    scene = Scene()
    scene.save(1)
    assert scene.marks.idle(10, is_end=True) == {}
    scene.save(2, CLOSE_AFTER_S)
    assert len(scene.marks.idle(10, is_end=True)) == 1
