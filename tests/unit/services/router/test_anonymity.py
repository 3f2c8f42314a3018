"""Pseudonyms and sealed authors: stable where they should be, and linked to nothing elsewhere."""

from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.wire import names
from libs.wire.codes import Code, Refusal
from services.router import permission
from services.router.anonymity import NAME, ROLE, Anonymity, Author
from services.router.store import Message, User
from tests.unit.services.router.fakes import FIELD, RAMA_SITA, message

OLD: Final = "an-old-key-of-thirty-two-letters"
NEW: Final = "a-newer-key-of-thirty-two-letter"
NAMING: Final = "a-secret-of-pseudonyms-thirty-two"
_IDS: Final = st.from_regex(r"[^\s:\x00-\x1f\x7f]{1,40}", fullmatch=True)
_CLIENT_IDS: Final = st.text(min_size=1, max_size=128)


def never() -> None:
    raise AssertionError("a seal did not open")


HIDING: Final = Anonymity([OLD], NAMING, never)


def written(conversation_id: str, sender_id: str = "rama", client_id: str = "rama-1") -> Message:
    """A message as its author sent it, with the key it has because it is anonymous."""
    key = HIDING.key(sender_id, client_id)
    one = message(1, conversation_id, sender_id, client_id=client_id, client_message_id=f"local-{client_id}")
    return msgspec.structs.replace(one, id=names.message_id_of(key, conversation_id), key=key)


@given(_IDS, _IDS)
def test_a_pseudonym_is_stable_in_its_conversation(user: str, group: str) -> None:
    """It has a form of its own, also under other sealing keys; another secret gives another."""
    in_group = HIDING.pseudonym(user, names.group(group))
    assert in_group == Anonymity([NEW], NAMING, never).pseudonym(user, names.group(group))
    assert in_group != Anonymity([OLD], NAMING[::-1], never).pseudonym(user, names.group(group))
    assert names.is_pseudonym(in_group)
    assert names.is_id(in_group)


@given(_IDS, st.lists(_IDS, min_size=2, max_size=5, unique=True))
def test_pseudonyms_of_one_user_have_nothing_in_common(user: str, others: list[str]) -> None:
    """In every group, and toward every recipient, another."""
    conversations = [names.group(other) for other in others] + [HIDING.direct(user, other) for other in others]
    assert len({HIDING.pseudonym(user, conversation_id) for conversation_id in conversations}) == 2 * len(others)


@given(st.lists(_IDS, min_size=2, max_size=5, unique=True), _IDS)
def test_users_in_one_conversation_have_pseudonyms_of_their_own(users: list[str], other: str) -> None:
    """Nobody is taken for another."""
    assert len({HIDING.pseudonym(user, names.group(other)) for user in users}) == len(users)
    assert len({HIDING.direct(user, other) for user in users}) == len(users)


@given(_IDS, _IDS, _IDS)
def test_only_the_author_stands_as_the_pseudonym(author: str, recipient: str, other: str) -> None:
    """In the conversation that they began; everyone else, and everywhere else, as themselves."""
    conversation_id = HIDING.direct(author, recipient)
    assert names.is_pseudonymous(conversation_id)
    pseudonym = HIDING.pseudonym(author, conversation_id)
    assert names.direct_pair(conversation_id) == tuple(sorted((pseudonym, recipient), key=str.encode))
    assert HIDING.standing(author, conversation_id) == pseudonym
    if other != author:
        assert HIDING.standing(other, conversation_id) == other
    for named in (names.direct(author, recipient), names.group(recipient)):
        assert HIDING.standing(author, named) == author


@given(_IDS, _CLIENT_IDS, _IDS, _CLIENT_IDS)
def test_a_key_is_a_messages_own_and_tells_nothing(user: str, client_id: str, other: str, other_id: str) -> None:
    """The same sender and clientId: the same key; and not the one that anybody could work out."""
    key = HIDING.key(user, client_id)
    assert key == Anonymity([NEW], NAMING, never).key(user, client_id)
    assert (key == HIDING.key(other, other_id)) == ((user, client_id) == (other, other_id))
    assert key != names.message_key(user, client_id)
    message_id = names.message_id_of(key, FIELD)
    assert names.key_of(message_id) == key
    assert names.partition_of_message(message_id, 16) == names.partition_of(FIELD, 16)


@given(_IDS, _CLIENT_IDS)
def test_the_author_of_a_hidden_message_is_found_again(user: str, client_id: str) -> None:
    """With all of their own ids; nothing of them is in the record."""
    one = written(FIELD, user, client_id)
    hidden = HIDING.hide(one)
    assert HIDING.author(hidden) == Author(user, client_id, f"local-{client_id}", is_hidden=True)
    assert (hidden.sender_name, hidden.sender_role, hidden.is_anonymous) == (NAME, ROLE, True)
    assert (hidden.client_id, hidden.client_message_id) == ("", "")
    assert hidden.sender_id == HIDING.pseudonym(user, FIELD)
    assert (hidden.content, hidden.seq, hidden.key) == (one.content, one.seq, one.key)


def test_the_clock_of_a_phone_tells_nobody_whose_it_is() -> None:
    """How far it is off would link an anonymous message to those under its author's name."""
    one = written(RAMA_SITA)
    hidden = HIDING.hide(msgspec.structs.replace(one, timestamp_ms=one.server_time_ms - 3127))
    assert hidden.timestamp_ms == one.server_time_ms


def test_seals_of_short_and_long_ids_are_equally_long() -> None:
    """How long an id is would tell some people from others."""
    short, long = HIDING.hide(written(FIELD, "ra", "1")), HIDING.hide(written(FIELD, "r" * 28, "1" * 36))
    assert len(short.sealed or "") == len(long.sealed or "")


def test_a_sealed_author_belongs_to_one_message() -> None:
    """Moved to another message it does not open, and that is counted."""
    counted: list[int] = []
    anonymity = Anonymity([OLD], NAMING, lambda: counted.append(1))
    one, other = anonymity.hide(written(FIELD)), anonymity.hide(written(FIELD, client_id="rama-2"))
    assert anonymity.author(msgspec.structs.replace(other, sealed=one.sealed)) is None
    assert anonymity.author(msgspec.structs.replace(other, sealed=None)) is None
    assert len(counted) == 2


def test_keys_are_rotated_without_losing_authors() -> None:
    """New first, old still there: what either sealed opens. Old taken away: its authors are gone."""
    counted: list[int] = []
    before = Anonymity([OLD], NAMING, never).hide(written(FIELD))
    both = Anonymity([NEW, OLD], NAMING, never)
    after = both.hide(written(FIELD))
    assert both.author(before) == both.author(after)
    only_new = Anonymity([NEW], NAMING, lambda: counted.append(1))
    assert only_new.author(after) is not None
    assert only_new.author(before) is None
    assert counted


# Who may write where somebody is anonymous

RAMA, SITA = User("rama", "Rama"), User("sita", "Sita")
HIDDEN: Final = HIDING.direct("rama", "sita")


@pytest.mark.parametrize(
    ("sender", "is_anonymous", "code"),
    [
        ("rama", False, Code.IDENTITY_EXPOSED),
        ("sita", False, Code.NO_REPLY),
        ("sita", True, Code.NO_REPLY),
        ("lata", True, Code.ACCESS_DENIED),
    ],
)
def test_only_who_began_writes_in_it_and_only_anonymously(sender: str, is_anonymous: bool, code: Code) -> None:
    """The recipient cannot answer; a stranger learns nothing."""
    pair = names.direct_pair(HIDDEN)
    assert pair is not None
    permission.check_pseudonymous("rama", HIDING.standing("rama", HIDDEN), pair, is_anonymous=True)
    with pytest.raises(Refusal) as refused:
        permission.check_pseudonymous(sender, HIDING.standing(sender, HIDDEN), pair, is_anonymous=is_anonymous)
    assert refused.value.code is code


def test_a_pseudonym_can_be_blocked() -> None:
    """By who receives from it, and who knows no more of it."""
    pseudonym = HIDING.pseudonym("rama", HIDDEN)
    permission.check_direct(RAMA, SITA, pseudonym)
    for blocked in ("rama", pseudonym):
        with pytest.raises(Refusal) as refused:
            permission.check_direct(RAMA, User("sita", "Sita", blocked=frozenset({blocked})), pseudonym)
        assert refused.value.code is Code.BLOCKED


def test_nobody_reads_as_a_pseudonym() -> None:
    """Whoever managed to sign in under such an id."""
    permission.check_participant("sita", HIDDEN, None)
    for user in ("rama", HIDING.pseudonym("rama", HIDDEN)):
        with pytest.raises(Refusal):
            permission.check_participant(user, HIDDEN, None)
    assert not names.is_pseudonymous(RAMA_SITA)
