"""What is sealed is read by who has the key, and by nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.identity import Seals, Unopenable
from libs.identity.seals import keys_of, problems

OLD, NEW = "an-old-key-of-thirty-two-letters", "a-newer-key-of-thirty-two-letter"
_OLD, _NEW, _BOTH = Seals([OLD], "tests"), Seals([NEW], "tests"), Seals([NEW, OLD], "tests")
_BYTES = st.binary(max_size=300)


@given(_BYTES, _BYTES)
def test_what_was_sealed_opens(plain: bytes, context: bytes) -> None:
    """Whatever it is, in the context it was sealed in."""
    assert _OLD.open(_OLD.seal(plain, context), context) == plain


@given(_BYTES, _BYTES, _BYTES)
def test_a_seal_opens_in_its_own_context_only(plain: bytes, context: bytes, other: bytes) -> None:
    """Moved beside another message it says nothing."""
    sealed = _OLD.seal(plain, context)
    if other != context:
        with pytest.raises(Unopenable):
            _OLD.open(sealed, other)


@given(_BYTES, st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_seal_that_was_tampered_with_does_not_open(plain: bytes, at: int, flip: int) -> None:
    """Not one byte of it may change."""
    sealed = bytearray(_OLD.seal(plain))
    sealed[at % len(sealed)] ^= flip
    with pytest.raises(Unopenable):
        _OLD.open(bytes(sealed))


@given(_BYTES)
def test_any_bytes_open_or_are_refused(sealed: bytes) -> None:
    """With the one exception."""
    with pytest.raises(Unopenable):
        _OLD.open(sealed)


@given(_BYTES)
def test_the_first_key_seals_and_all_open(plain: bytes) -> None:
    """So a key is changed while what the old one sealed is still about."""
    assert _BOTH.open(_OLD.seal(plain)) == plain
    assert _NEW.open(_BOTH.seal(plain)) == plain
    with pytest.raises(Unopenable):
        _OLD.open(_BOTH.seal(plain))


def test_each_purpose_has_keys_of_its_own() -> None:
    """What was sealed on its way is no seal in the store."""
    with pytest.raises(Unopenable):
        Seals([OLD], "something else").open(_OLD.seal(b"asha"))


def test_two_seals_of_one_text_have_nothing_in_common() -> None:
    """But the key's id: nobody can tell that they hold the same."""
    one, other = _OLD.seal(b"asha"), _OLD.seal(b"asha")
    assert one[4:] != other[4:]
    assert b"asha" not in one


def test_keys_are_separated_by_commas_and_must_be_long() -> None:
    """And are never shown."""
    assert keys_of(f" {NEW}, {OLD},") == [NEW, OLD]
    assert problems("KEYS", f"{NEW},{OLD}") == []
    (problem,) = problems("KEYS", f"{NEW},short-one")
    assert "KEYS" in problem
    assert "short-one" not in problem
