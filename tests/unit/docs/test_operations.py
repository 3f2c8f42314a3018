"""`docs/operations.md` names every setting and every series that it should."""

import re

import msgspec
import pytest

from docs import metrics, settings
from docs.settings import HEADINGS
from libs.settings import Settings

PAGE = settings.PAGE.read_text(encoding="utf-8")


def test_the_tables_of_settings_are_what_the_types_say() -> None:
    """After a change of a setting: `make docs`."""
    assert settings.written(PAGE) == PAGE


@pytest.mark.parametrize("kind", HEADINGS, ids=lambda kind: kind.__name__)
def test_every_setting_is_documented_with_its_default(kind: type[Settings]) -> None:
    """A row for each variable under its service's heading, with the default that holds, and no row besides."""
    section = PAGE.partition(HEADINGS[kind] + "\n")[2].partition("\n### ")[0]
    rows = {line.split("|")[1].strip(" `"): line for line in section.splitlines() if line.startswith("| `")}
    fields = {field.name.upper(): field for field in msgspec.structs.fields(kind)}
    assert rows.keys() == fields.keys()
    for variable, field in fields.items():
        if field.required:
            assert "*needed*" in rows[variable]
        elif field.default not in (None, ""):
            assert f"`{field.default}`" in rows[variable]


def test_every_series_that_is_named_exists() -> None:
    """A runbook that names a series nobody exports sends its reader astray."""
    exported = {row.name for rows in metrics.catalogue().values() for row in rows}
    named = set(re.findall(r"`(talowa_\w+)", PAGE))
    assert named
    assert named <= exported
