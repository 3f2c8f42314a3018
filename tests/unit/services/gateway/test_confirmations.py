"""Acknowledgements are gathered for a moment: a frame for each message, or for each user; none is lost on the way."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from libs.wire.codes import Code, Refusal
from libs.wire.frames import Confirm, Confirms, Inbound, Origin
from services.gateway.confirmations import _MANY, Confirmations
from services.gateway.metrics import GatewayMetrics
from services.gateway.uplink import Uplink
from tests.unit.services.gateway.fakes import FakeWheel

_GATHER_S: Final = 0.05
_CONVERSATIONS: Final = ("group:g", "group:h", "direct:asha:bala")


class FakeUplink(Uplink):
    """Keeps what it is given, or is full for one conversation."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, Confirm | Confirms]] = []
        self.is_full_for = ""

    def publish_for_conversation(self, conversation_id: str, frame: Inbound) -> None:
        """A frame."""
        if conversation_id == self.is_full_for:
            raise Refusal(Code.UNAVAILABLE)
        assert isinstance(frame, Confirm | Confirms)
        self.frames.append((conversation_id, frame))


class Desk:
    """Confirmations, and what was published of them."""

    def __init__(self) -> None:
        self.wheel = FakeWheel()
        self.uplink = FakeUplink()
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.confirmations = Confirmations("g1", self.uplink, self.metrics, self.wheel, gather_s=_GATHER_S)

    @property
    def told(self) -> list[tuple[str, str, int]]:
        """What routers hear: who has which message of which conversation."""
        heard = []
        for conversation_id, frame in self.uplink.frames:
            assert frame.conversation_id == conversation_id
            assert frame.origin == Origin("g1", "")
            match frame:
                case Confirms():
                    heard += [(user, conversation_id, frame.seq) for user in frame.user_ids]
                case Confirm():
                    heard += [(frame.user_id, conversation_id, seq) for seq in frame.seqs]
        return heard


def test_many_devices_that_have_a_message_are_one_frame() -> None:
    """However many, and each user once, in the order they said so."""
    desk = Desk()
    for user in ("asha", "bala", "asha", "chandra"):
        desk.confirmations.note(user, "group:g", (7,))
    assert desk.uplink.frames == []
    desk.wheel.turn(_GATHER_S)
    ((_, frame),) = desk.uplink.frames
    assert isinstance(frame, Confirms)
    assert (frame.seq, frame.user_ids) == (7, ("asha", "bala", "chandra"))


def test_what_was_only_queued_is_told_apart_from_what_has_its_place_now() -> None:
    """There is one mark a frame, so what has one goes by itself."""
    desk = Desk()
    for user in ("asha", "bala"):
        desk.confirmations.note(user, "group:g", (7,), mark=5)
    desk.confirmations.note("asha", "group:g", (7,), mark=6)
    desk.confirmations.note("asha", "group:g", (7, 8))
    desk.wheel.turn(_GATHER_S)
    found = [
        (frame.mark, (frame.seq,) if isinstance(frame, Confirms) else frame.seqs) for _, frame in desk.uplink.frames
    ]
    assert sorted(found) == [(0, (7, 8)), (5, (7,)), (6, (7,))]


def test_what_one_user_alone_has_is_one_frame() -> None:
    """Several messages of a conversation: a page, or a lively talk between two."""
    desk = Desk()
    desk.confirmations.note("asha", "direct:asha:bala", (1, 2))
    desk.confirmations.note("asha", "direct:asha:bala", (3,))
    desk.wheel.turn(_GATHER_S)
    ((_, frame),) = desk.uplink.frames
    assert isinstance(frame, Confirm)
    assert (frame.user_id, frame.seqs, frame.event, frame.read) == ("asha", (1, 2, 3), None, False)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["asha", "bala", "chandra"]),
            st.sampled_from(_CONVERSATIONS),
            st.lists(st.integers(1, 5), min_size=1, max_size=4),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_whoever_has_what_each_is_told(notes: list[tuple[str, str, list[int], bool]]) -> None:
    """Nobody's acknowledgement is lost, nor made up, nor told twice in one go."""
    desk, noted = Desk(), set[tuple[str, str, int]]()
    for user, conversation_id, seqs, is_later in notes:
        desk.confirmations.note(user, conversation_id, seqs)
        noted |= {(user, conversation_id, seq) for seq in seqs}
        if is_later:
            desk.wheel.turn(_GATHER_S)
            assert len(desk.told) == len(set(desk.told)) == len(noted)
            assert set(desk.told) == noted
            desk.uplink.frames.clear()
            noted.clear()
    desk.wheel.turn(_GATHER_S)
    assert set(desk.told) == noted


def test_the_first_is_not_put_off_by_those_that_follow() -> None:
    """They are gathered for so long and no longer; then it begins anew."""
    desk = Desk()
    for seq in range(1, 5):
        desk.confirmations.note("asha", "group:g", (seq,))
        desk.wheel.turn(_GATHER_S / 2)
    assert [frame.seqs for _, frame in desk.uplink.frames if isinstance(frame, Confirm)] == [(1, 2), (3, 4)]


def test_so_many_wait_for_nothing_more() -> None:
    """They are published at once, and the wheel has nothing left to do."""
    desk = Desk()
    for number in range(_MANY):
        assert desk.uplink.frames == []
        desk.confirmations.note(f"user{number}", "group:g", (1,))
    assert len(desk.told) == _MANY
    desk.wheel.turn(10 * _GATHER_S)
    assert len(desk.uplink.frames) == 1


def test_who_leaves_publishes_what_was_noted() -> None:
    """At once; to do so with nothing noted is to do nothing."""
    desk = Desk()
    desk.confirmations.note("asha", "group:g", (1,))
    desk.confirmations.flush()
    assert desk.told == [("asha", "group:g", 1)]
    desk.confirmations.flush()
    desk.wheel.turn(_GATHER_S)
    assert len(desk.uplink.frames) == 1


def test_a_full_uplink_is_counted_and_loses_nothing_else() -> None:
    """What it does not take stays due; the frames of other conversations go, and so do later ones."""
    desk = Desk()
    desk.uplink.is_full_for = "group:g"
    for user in ("asha", "bala"):
        desk.confirmations.note(user, "group:g", (1,))
    desk.confirmations.note("asha", "group:g", (2,))
    desk.confirmations.note("asha", "group:h", (3,))
    desk.confirmations.flush()
    assert desk.told == [("asha", "group:h", 3)]
    assert desk.metrics.confirms_dropped._value.get() == 2
    assert [c._value.get() for c in (desk.metrics.messages_acknowledged, desk.metrics.confirmed)] == [4, 1]
    desk.uplink.is_full_for = ""
    desk.confirmations.note("bala", "group:g", (4,))
    desk.wheel.turn(_GATHER_S)
    assert desk.told == [("asha", "group:h", 3), ("bala", "group:g", 4)]


def test_what_a_device_has_confirmed_does_not_outlive_its_socket() -> None:
    """Who drops and comes back at once is not sent it again; others' acknowledgements go along."""
    desk = Desk()
    desk.confirmations.note("asha", "group:g", [1])
    desk.confirmations.note("bala", "group:h", [2])
    desk.confirmations.left("chitra")
    assert desk.told == []
    desk.confirmations.left("asha")
    assert sorted(desk.told) == [("asha", "group:g", 1), ("bala", "group:h", 2)]
    desk.wheel.turn(1.0)
    assert len(desk.told) == 2
