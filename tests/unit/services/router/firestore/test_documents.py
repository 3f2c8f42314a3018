"""Documents that others wrote: what is missing or wrong is read as the simplest there is, and breaks nothing."""

from typing import Any, Final

import msgspec
import pytest
from google.cloud.firestore_v1.types import write
from hypothesis import given
from hypothesis import strategies as st

from libs.storage.firestore import values
from libs.storage.firestore.values import Found, Stamp
from libs.wire import names
from libs.wire.frames import Places
from services.router.firestore import documents, people
from services.router.store import Group, Message, Receipt, User

_THEN: Final = Stamp(1, 0)
_INT: Final = st.integers(-(1 << 63), (1 << 63) - 1)
_ODD: Final[st.SearchStrategy[Any]] = (
    st.none() | st.booleans() | _INT | st.text() | st.lists(_INT | st.text()) | st.just({})
)


def _found(fields: dict[str, Any], id_: str = "rama") -> Found:
    return Found(id_, fields, _THEN, _THEN)


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({}, User("rama", "rama")),
        ({"fullName": "Rama R.", "role": "wizard"}, User("rama", "Rama R.")),
        ({"name": 7, "role": None, "disabled": "yes", "blocked": "sita"}, User("rama", "rama")),
        ({"name": "Rama", "blocked": ["sita", 3, None]}, User("rama", "Rama", blocked=frozenset({"sita"}))),
        ({"location": {"stateId": "TS", "villageId": 9}}, User("rama", "rama", places=Places("TS"))),
        ({"location": "Hyderabad"}, User("rama", "rama")),
        ({"role": "founder", "disabled": True}, User("rama", "rama", "founder", disabled=True)),
    ],
)
def test_a_user_with_missing_or_wrong_fields_is_a_member(fields: dict[str, Any], user: User) -> None:
    """Named after the id, with no right that is not written there."""
    assert people._user(_found(fields)) == user


@pytest.mark.parametrize("fields", [{}, {"members": None}, {"members": "sita"}, {"members": {"sita": True}}])
def test_a_group_without_members_has_none(fields: dict[str, Any]) -> None:
    """Nobody may write to it."""
    assert people._group(_found(fields, "field")) == Group("field", "field", frozenset())


@given(
    st.dictionaries(
        st.sampled_from([*Message.__struct_fields__, "senderId", "seq", "timestamp", "mediaMetadata"]), _ODD
    )
)
def test_any_document_is_some_message(fields: dict[str, Any]) -> None:
    """Also one that an older server wrote, or nobody understands."""
    message = documents.message(_found(fields, "0" * 32))
    assert message.key == "0" * 32
    assert isinstance(message.seq, int)


@given(st.dictionaries(st.sampled_from(["delivered", "read", "ahead"]), _ODD))
def test_any_document_is_some_receipt(fields: dict[str, Any]) -> None:
    """The empty one at worst."""
    assert isinstance(documents.receipt_of(fields), Receipt)


def test_media_metadata_that_the_app_wrote_as_a_map_is_read() -> None:
    """As JSON."""
    message = documents.message(_found({"mediaMetadata": {"bytes": 5}}))
    assert msgspec.json.decode(message.media_metadata or b"") == {"bytes": 5}


def test_a_message_is_found_by_the_beginnings_of_its_words() -> None:
    """Of three letters and of one; what is sealed or void by none."""
    sent = Message(
        id="", key="k", conversation_id=names.group("field"), seq=1, sender_id="rama", sender_name="", sender_role="",
        type="text", content="The survey, theirs", client_id="", client_message_id="", timestamp_ms=0, server_time_ms=0,
    )  # fmt: skip
    assert _words(sent) == ["the", "t", "sur", "s"]
    assert documents.token("survey") == "sur"
    assert documents.token("su") == "s"
    assert _words(msgspec.structs.replace(sent, encryption_level="high_security")) is None
    assert _words(msgspec.structs.replace(sent, is_void=True)) is None


def _words(message: Message) -> Any:
    fields = write.Write.pb().FromString(documents.message_write("m", message)).update.fields
    return values.plain(fields["words"]) if "words" in fields else None
