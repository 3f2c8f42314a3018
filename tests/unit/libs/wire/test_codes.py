"""Every refusal has words, and says whether to try again."""

import pytest

from libs.wire.codes import Code, Refusal, is_retryable, words

_RETRYABLE = {Code.UNAVAILABLE, Code.OVERLOADED, Code.INTERNAL, Code.RATE_LIMITED}


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_sentence_of_its_own(code: Code) -> None:
    """A person may be shown it."""
    assert words(code).endswith(".")
    assert [other for other in Code if words(other) == words(code)] == [code]
    assert Refusal(code).message == words(code)


@pytest.mark.parametrize("code", Code)
def test_only_the_clusters_own_troubles_are_worth_another_try(code: Code) -> None:
    """Whoever adds a code decides here as well whether the same request may succeed later."""
    assert is_retryable(code) == (code in _RETRYABLE)


def test_a_code_is_spelled_as_it_is_named() -> None:
    """So that a code in a log is found in the source."""
    assert [code for code in Code if code.value != code.name.lower()] == []
