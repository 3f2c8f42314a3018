"""Hearers: whatever seats come and go, everyone is shown what is queued in its order."""

from hypothesis import given
from hypothesis import strategies as st

from libs.wire import names
from services.router.hearers import Hearers
from services.router.receipts import ReceiptBook
from services.router.routing import ToUsers
from services.router.store import Message

FIELD = names.group("field")
USERS = ("rama", "sita", "lata")

seats_of_all = st.dictionaries(st.sampled_from(USERS), st.sampled_from((("g1",), ("g2",), ("g1", "g2"))))


def message(seq: int, sender: str) -> Message:
    return Message("", f"m{seq}", FIELD, seq, sender, "", "", "text", "", "", "", 0, 0)


def say(message: Message) -> ToUsers:
    users = tuple(user for user in USERS if user != message.sender_id)
    return ToUsers(1, users, "new_message", b"", FIELD, message.seq)


@given(st.lists(st.tuples(st.sampled_from(USERS), seats_of_all), max_size=12), st.integers(1, 5))
def test_what_is_queued_is_shown_in_its_order_at_every_seat(
    story: list[tuple[str, dict[str, tuple[str, ...]]]], first: int
) -> None:
    """On the gateway where a user hears of a message, they have heard all before it; their own are not among them."""
    hearers, book = Hearers(), ReceiptBook()
    heard: dict[tuple[str, str], set[int]] = {}
    sent: list[Message] = []
    for seq, (sender, seats) in enumerate(story, first):
        sent.append(message(seq, sender))
        hearers.wait([sent[-1]])
        for saying in (*hearers.before(say(sent[-1]), seats, book), say(sent[-1])):
            for user in saying.users:
                assert sent[saying.seq - first].sender_id != user
                for gateway in seats.get(user, ()):
                    there = heard.setdefault((user, gateway), set())
                    assert {one.seq for one in sent if one.seq < saying.seq and one.sender_id != user} <= there
                    there.add(saying.seq)


def test_what_does_not_wait_for_the_store_takes_nothing_along() -> None:
    """Before anything is queued, of a message that is saved, and once the store has all."""
    hearers, seats, book = Hearers(), {"sita": ("g1",)}, ReceiptBook()
    first, second, third = (message(seq, "rama") for seq in (1, 2, 3))
    assert not hearers
    assert hearers.before(say(first), seats, book) == ()
    hearers.wait([second, third])
    assert hearers
    assert hearers.before(say(first), seats, book) == ()
    assert [one.seq for one in hearers.before(say(third), seats, book)] == [2]
    hearers.clear()
    assert not hearers
    assert hearers.before(say(third), seats, book) == ()
