"""Documents of the server before: what fits, what does not, and that nothing in them breaks a look."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.storage.firestore.values import Found, Stamp
from libs.wire import names
from services.router.firestore import old
from services.router.firestore.old import OldMessage

_THEN: Final = Stamp(1, 0)
_AT: Final = Stamp(1_700_000_000, 5_000_000)
_AT_MS: Final = 1_700_000_000_005
_DIRECT: Final = {"senderId": "rama", "recipientId": "sita", "content": "Monday", "createdAt": _AT}
_INT: Final = st.integers(-(1 << 63), (1 << 63) - 1)
_ODD: Final[st.SearchStrategy[Any]] = (
    st.none() | st.booleans() | _INT | st.floats() | st.text() | st.lists(_INT | st.text()) | st.just({}) | st.just(_AT)
)


def _found(fields: dict[str, Any], id_: str = "Zx81") -> Found:
    return Found(id_, fields, _THEN, _THEN)


def _message(**changed: Any) -> tuple[OldMessage | None, list[str]]:
    fields = {name: value for name, value in (_DIRECT | changed).items() if value is not None}
    return old.of_message(_found(fields), {"field"})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, OldMessage("direct:rama:sita", "rama", _AT_MS, 1, is_had=False, is_read=False)),
        (
            {"deliveryStatus": "delivered"},
            OldMessage("direct:rama:sita", "rama", _AT_MS, 1, is_had=True, is_read=False),
        ),
        ({"deliveryStatus": "read"}, OldMessage("direct:rama:sita", "rama", _AT_MS, 1, is_had=True, is_read=True)),
        ({"type": "emergency"}, OldMessage("direct:rama:sita", "rama", _AT_MS, 0, is_had=False, is_read=False)),
        ({"recipientId": None, "groupId": "field"}, OldMessage("group:field", "rama", _AT_MS, 1, True, False)),
        (
            {"createdAt": None, "timestamp": 7},
            OldMessage("direct:rama:sita", "rama", 7, 1, is_had=False, is_read=False),
        ),
    ],
)
def test_a_message_that_fits_says_where_it_is_and_who_has_it(changed: dict[str, Any], expected: OldMessage) -> None:
    """Of a group everybody: who did not is not in it."""
    assert _message(**changed) == (expected, [])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"senderId": None}, "without a sender"),
        ({"senderId": "a:b"}, "without a sender"),
        ({"recipientId": None}, "to nobody"),
        ({"groupId": "field"}, "to a user and a group at once"),
        ({"recipientId": "a b"}, "to an id that cannot be one"),
        ({"recipientId": None, "groupId": "gone"}, "to groups that are gone"),
        ({"createdAt": "yesterday"}, "without a time"),
    ],
)
def test_a_message_that_does_not_fit_is_told_and_left(changed: dict[str, Any], said: str) -> None:
    """In words that an operator can act on."""
    message, wrong = _message(**changed)
    assert message is None
    assert said in " ".join(wrong)


@pytest.mark.parametrize(("content", "said"), [(None, "without content"), ("x" * 20_000, "more than 16 KB")])
def test_an_odd_content_fits_and_is_told(content: str | None, said: str) -> None:
    """It is shown as it is."""
    message, wrong = _message(content=content)
    assert message is not None
    assert said in " ".join(wrong)


@given(st.dictionaries(st.sampled_from(old.MESSAGE_FIELDS), _ODD), st.text(min_size=1))
def test_any_message_is_judged(fields: dict[str, Any], id_: str) -> None:
    """What fits is in a conversation that there can be, at a time."""
    message, wrong = old.of_message(_found(fields, id_), {"field"})
    assert message is not None or wrong
    if message is not None:
        assert names.is_conversation(message.conversation_id)
        assert message.at_ms > 0


@given(st.dictionaries(st.sampled_from([*old.USER_FIELDS, *old.GROUP_FIELDS]), _ODD), st.text(min_size=1))
def test_any_user_and_group_is_judged(fields: dict[str, Any], id_: str) -> None:
    """Whatever their fields are."""
    assert all(old.of_user(_found(fields, id_)))
    assert all(old.of_group(_found(fields, id_)))


def test_the_routers_messages_are_known_by_their_ids() -> None:
    """A key, or a void place; what Firestore named is older."""
    assert old.is_ours(_found({}, "0123456789abcdef" * 2))
    assert old.is_ours(_found({}, "void-x"))
    assert not old.is_ours(_found({}, "Zx81Zx81Zx81Zx81Zx81"))
