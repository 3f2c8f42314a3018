"""What Firestore takes for an id, a name and a value."""

from typing import Any

import pytest

from libs.storage.firestore.ids import is_storable, readable


@pytest.mark.parametrize("id_", ["a/b", ".", "..", "__all__", "భూమి" * 200])
def test_an_id_that_firestore_does_not_take_has_another_in_its_place(id_: str) -> None:
    """The same each time."""
    assert readable(id_) == readable(id_) != id_
    assert readable("direct:asha:bala") == "direct:asha:bala"


@pytest.mark.parametrize(
    "value", [{"": 1}, {"__x__": 1}, {"a": [[1]]}, {"n" * 1501: 1}, {"a": 1 << 63}, [object()], {"a": {"b": {"": 0}}}]
)
def test_what_json_can_say_and_firestore_cannot_is_told(value: Any) -> None:
    """Before it is refused."""
    assert not is_storable(value)


def test_what_is_too_deep_is_told() -> None:
    """A document has twenty levels."""
    value: Any = 1
    for _ in range(16):
        value = {"a": value}
    assert is_storable(value)
    assert not is_storable({"a": value})


def test_plain_things_are_storable() -> None:
    """As apps send them."""
    assert is_storable({"title": "పాట", "seconds": 7.5, "of": [{"a": None}, True, "x"], "n": -(1 << 63)})
