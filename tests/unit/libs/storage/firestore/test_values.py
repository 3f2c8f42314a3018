"""What is encoded here is what Google's own classes read, field by field."""

from typing import Any, Final

import pytest
from google.cloud.firestore_v1.types import document, firestore, write
from hypothesis import given
from hypothesis import strategies as st

from libs.storage.firestore import values
from libs.storage.firestore.values import Instant, Packed, Stamp

_Value: Final = document.Value.pb()
_Write: Final = write.Write.pb()
_CommitRequest: Final = firestore.CommitRequest.pb()
_TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]))
_PLAIN: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | _TEXT
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)
_NAME: Final = "projects/p/databases/(default)/documents/c/d"


@given(_PLAIN)
def test_every_value_comes_back(value: Any) -> None:
    """Through Google's parser and back: types, depths and scripts."""
    assert values.plain(_Value.FromString(values.value(value))) == value


@given(st.integers(0, 253_402_300_799_999))
def test_a_moment_comes_back_to_the_millisecond(ms: int) -> None:
    """Of the years that Firestore knows."""
    stamp = values.plain(_Value.FromString(values.value(Instant(ms))))
    assert stamp.seconds * 1000 + stamp.nanos // 1_000_000 == ms


def test_a_moment_beyond_its_years_is_the_last_it_has() -> None:
    """Firestore refuses the year 10000."""
    stamp = values.plain(_Value.FromString(values.value(Instant(1 << 60))))
    assert stamp == Stamp(253_402_300_799, 999_000_000)


def test_what_has_no_type_there_is_a_mistake() -> None:
    """And half of a surrogate pair cannot be written at all."""
    with pytest.raises(TypeError, match="object"):
        values.value(object())
    with pytest.raises(UnicodeEncodeError):
        values.value("\ud800")


def test_a_document_that_must_be_new_says_so() -> None:
    """With all of its fields."""
    read = _Write.FromString(values.create(_NAME, {"text": "భూమి", "n": 3, "of": values.packed_array([b""])}))
    assert read.update.name == _NAME
    assert values.plain(read.update.fields["text"]) == "భూమి"
    assert read.HasField("current_document")
    assert read.current_document.exists is False


def test_a_change_says_what_it_changes_and_on_what_condition() -> None:
    """Masks, maxima, stamps, unions; a version, or that there is one."""
    version = Stamp(5, 6000)
    read = _Write.FromString(
        values.put(
            _NAME,
            {"a": 1},
            only=("a", "b"),
            maximum={"m": 9},
            stamped=("at",),
            union={"has": ["x"]},
            if_version=version,
        )
    )
    assert list(read.update_mask.field_paths) == ["a", "b"]
    maximum, stamp, union = read.update_transforms
    assert (maximum.field_path, values.plain(maximum.maximum)) == ("m", 9)
    assert (stamp.field_path, stamp.set_to_server_value) == ("at", 1)
    assert [values.plain(each) for each in union.append_missing_elements.values] == ["x"]
    assert (read.current_document.update_time.seconds, read.current_document.update_time.nanos) == (5, 6000)
    assert _Write.FromString(values.put(_NAME, {}, if_there=True)).current_document.exists is True
    assert not _Write.FromString(values.put(_NAME, {})).HasField("current_document")
    assert not _Write.FromString(values.put(_NAME, {})).HasField("update_mask")
    assert _Write.FromString(values.put(_NAME, {}, only=())).HasField("update_mask")


def test_a_deletion_names_a_document() -> None:
    """Of a version, if need be."""
    read = _Write.FromString(values.delete(_NAME, if_version=Stamp(1, 2)))
    assert read.delete == _NAME
    assert read.current_document.update_time.nanos == 2


def test_a_check_names_a_document_and_its_version() -> None:
    """In a field that Google's web client knows; those who do not know it see no operation."""
    read = _Write.FromString(values.verify(_NAME, Stamp(5, 6000)))
    assert read.WhichOneof("operation") is None
    assert (read.current_document.update_time.seconds, read.current_document.update_time.nanos) == (5, 6000)
    assert values.verify(_NAME, Stamp(5, 6000)).startswith(values.block(b"\x2a", _NAME.encode()))


def test_a_commit_holds_its_writes_in_order() -> None:
    """For one database."""
    writes = [values.delete(f"{_NAME}{number}") for number in range(300)]
    read = _CommitRequest.FromString(values.commit_request("projects/p/databases/d", writes))
    assert read.database == "projects/p/databases/d"
    assert [each.delete for each in read.writes] == [f"{_NAME}{number}" for number in range(300)]


def test_words_that_come_again_are_encoded_once() -> None:
    """And an array of them is an array like any other."""
    packed = values.packed_array(map(values.element, ["a", "b", "a"]))
    assert isinstance(packed, Packed)
    assert values.plain(_Value.FromString(values.value(packed))) == ["a", "b", "a"]
    assert values.element("a") is values.element("a")
