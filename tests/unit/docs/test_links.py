"""What the documents link to exists, and the list of decisions is whole."""

import re
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parents[3]
_PAGES: Final = sorted(
    str(page.relative_to(_ROOT))
    for page in (
        *_ROOT.glob("*.md"),
        *(page for folder in ("docs", "loadtests") for page in (_ROOT / folder).rglob("*.md")),
    )
)
_LINK: Final = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


@pytest.mark.parametrize("page", _PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """To a file that there is, from where the page is."""
    folder = (_ROOT / page).parent
    linked = _LINK.findall((_ROOT / page).read_text(encoding="utf-8"))
    assert [path for path in linked if not (folder / path).exists()] == []


def test_every_decision_is_listed_once_and_in_order() -> None:
    """By its file's name."""
    folder = _ROOT / "docs/adr"
    listed = _LINK.findall((folder / "README.md").read_text(encoding="utf-8"))
    assert listed == sorted(path.name for path in folder.glob("0*.md"))
