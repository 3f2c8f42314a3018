"""`docs/protocol.md` names every refusal, and whether to try again."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from libs.wire.codes import Code, is_retryable

PAGE: Final = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
_ROW: Final = re.compile(r"^\| (?P<codes>(?:`\w+` )+)\| (?P<retryable>yes|no)\b[^|]* \| (?P<when>.+) \|$", re.MULTILINE)


def table() -> Iterator[tuple[str, bool]]:
    """Each code in the table of codes, and what its row says of it."""
    for row in _ROW.finditer(PAGE):
        for code in row["codes"].split():
            yield code.strip("`"), row["retryable"] == "yes"


def test_every_code_is_in_the_table_with_whether_to_try_again() -> None:
    """Apps decide by it; a code that is not there is one that nobody expects."""
    assert dict(table()) == {code.value: is_retryable(code) for code in Code}


def test_no_code_is_in_the_table_twice() -> None:
    """Two rows of one code contradict each other sooner or later."""
    assert [code for code, times in Counter(code for code, _ in table()).items() if times > 1] == []
