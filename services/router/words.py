"""The words of a text, in any script: what a search compares.

Told here and not by a store: SQLite's letters are those of Unicode 6.1 and its `unicode61` knows no joiners; Firestore
knows no words at all.
"""

import unicodedata
from typing import Final

# Letters, digits, and the signs that stand above, below and around them; `Co` is for fonts of one's own.
_OF_WORDS: Final = ("L", "N", "M", "Co")
_ZERO_WIDTH_SPACE: Final = 0x200B
_VARIATION_SELECTORS: Final = range(0xFE00, 0xFE10)
# Far more than people write with.
_REMEMBERED: Final = 20_000


class _Letters(dict[int, str | None]):
    """For `str.translate`: letters stay, joiners go, the rest is a space. Learns as it is asked."""

    def __missing__(self, code: int) -> str | None:
        kind = unicodedata.category(chr(code))
        found: str | None = " "
        if code in _VARIATION_SELECTORS or (kind == "Cf" and code != _ZERO_WIDTH_SPACE):
            found = None  # joiners and marks of direction shape a word; they do not end it
        elif kind.startswith(_OF_WORDS):
            found = chr(code)
        if len(self) < _REMEMBERED:
            self[code] = found
        return found


_letters: Final = _Letters()


def words(text: str) -> list[str]:
    """The words of a text: composed (NFC), without case, in any script."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return unicodedata.normalize("NFC", folded.translate(_letters)).split()
