"""Names are derived: the same for everybody, telling apart what differs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.wire import names

IDS = st.text(min_size=1, max_size=128).filter(names.is_id)
PARTITIONS = st.integers(min_value=1, max_value=99)


@given(IDS, IDS)
def test_a_direct_conversation_is_the_same_whoever_asks(one: str, other: str) -> None:
    """And its name tells whose it is, in byte order."""
    conversation_id = names.direct(one, other)
    assert conversation_id == names.direct(other, one)
    assert names.direct_pair(conversation_id) == tuple(sorted((one, other), key=str.encode))
    assert names.group_of(conversation_id) is None
    assert names.is_conversation(conversation_id)


@given(IDS)
def test_a_group_conversation_tells_its_group(group_id: str) -> None:
    """And is no direct one."""
    conversation_id = names.group(group_id)
    assert names.group_of(conversation_id) == group_id
    assert names.direct_pair(conversation_id) is None
    assert names.is_conversation(conversation_id)


@given(st.text())
def test_any_text_is_read_as_one_conversation_at_most(text: str) -> None:
    """What is a conversation's name was made by `direct` or by `group`."""
    pair, group_id = names.direct_pair(text), names.group_of(text)
    assert pair is None or (names.direct(*pair) == text and group_id is None)
    assert group_id is None or names.group(group_id) == text


def test_what_would_make_a_name_ambiguous_is_no_id() -> None:
    """Colons, spaces, control characters, nothing, more than 128 characters, half an emoji."""
    for text in ("a:b", "a b", "a\nb", "a\0b", "\x7f", "", "x" * 129, "a\ud83d"):
        assert not names.is_id(text)
    for text in ("x" * 128, "ఆశ", "a-b_c.d@e"):
        assert names.is_id(text)


def test_a_pair_in_the_wrong_order_is_no_conversation() -> None:
    """One conversation has one name: another spelling would be another partition."""
    assert names.direct_pair("direct:b:a") is None
    assert names.direct_pair("direct:a") is None
    assert names.direct_pair("direct:a:b:c") is None
    assert names.group_of("group:a:b") is None


@given(IDS, IDS, IDS, st.text(min_size=1, max_size=128), PARTITIONS)
def test_a_message_id_alone_finds_its_partition(
    sender: str, one: str, other: str, client_id: str, partitions: int
) -> None:
    """And its key is that of (sender, clientId), whatever the conversation."""
    conversation_id = names.direct(one, other)
    message_id = names.message_id(sender, client_id, conversation_id)
    assert message_id == names.message_id(sender, client_id, conversation_id)
    assert names.key_of(message_id) == names.message_key(sender, client_id)
    partition = names.partition_of(conversation_id, partitions)
    assert 0 <= partition < partitions
    assert names.partition_of_message(message_id, partitions) == partition
    assert 0 <= names.partition_of_user(sender, partitions) < partitions


@given(IDS, IDS, st.text(min_size=1, max_size=64), st.text(min_size=1, max_size=64))
def test_different_messages_have_different_keys(one: str, other: str, first: str, second: str) -> None:
    """Two clientIds of one sender, or one clientId of two senders."""
    assert (names.message_key(one, first) == names.message_key(other, second)) == ((one, first) == (other, second))


@given(st.text())
def test_an_id_that_is_not_ours_has_no_partition(text: str) -> None:
    """Whatever a client says to have received."""
    is_ours = len(text) == 36 and set(text) <= set("0123456789abcdef")
    assert (names.key_of(text) is not None) == is_ours
    assert (names.partition_of_message(text, 16) is not None) == is_ours


@given(st.binary(min_size=10, max_size=32), IDS)
def test_a_pseudonym_makes_a_conversation_pseudonymous(digest: bytes, other: str) -> None:
    """It is an id like any other, and can be told from all that people have."""
    pseudonym = names.pseudonym(digest)
    assert names.is_id(pseudonym)
    assert names.is_pseudonym(pseudonym)
    assert names.is_pseudonymous(names.direct(pseudonym, other))
    assert not names.is_pseudonymous(names.group(pseudonym))
    assert names.is_pseudonymous(names.direct(other, other)) == names.is_pseudonym(other)


@pytest.mark.parametrize("text", ["anon-", "anon-0123", f"anon-{'g' * 20}", f"anon-{'0' * 21}", f"x:anon-{'0' * 20}"])
def test_what_only_looks_like_a_pseudonym_is_none(text: str) -> None:
    """Nor is a conversation that is none."""
    assert not names.is_pseudonym(text)
    assert not names.is_pseudonymous(f"direct:{text}")
    assert not names.is_pseudonymous(f"direct:asha:{text}")
