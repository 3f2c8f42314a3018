"""The tables of settings in `docs/operations.md`, made of the services' types. `make docs` writes them."""

from pathlib import Path
from typing import Final

import msgspec

from libs.settings import Settings, purpose
from services.gateway.settings import GatewaySettings
from services.local.settings import IssuanceSettings, LocalSettings
from services.presence.settings import PresenceSettings
from services.router.settings import RouterSettings

PAGE: Final = Path(__file__).with_name("operations.md")

# Each table follows its heading.
HEADINGS: Final[dict[type[Settings], str]] = {
    GatewaySettings: "### A gateway",
    RouterSettings: "### A router",
    PresenceSettings: "### Presence",
    IssuanceSettings: "### The local token issuer",
    LocalSettings: "### `talowa up`",
}
_HEAD: Final = "| variable | default | |\n|---|---|---|\n"


def written(page: str) -> str:
    """The page with its tables as the types have them. Raises `ValueError` where a heading is missing."""
    for kind, heading in HEADINGS.items():
        before, found, after = page.partition(f"\n{heading}\n\n{_HEAD}")
        if not found:
            raise ValueError(f"operations.md has no table under {heading!r}")
        rest = after.splitlines(keepends=True)
        while rest and rest[0].startswith("|"):
            del rest[0]
        page = before + found + _rows(kind) + "".join(rest)
    return page


def _rows(kind: type[Settings]) -> str:
    return "".join(
        f"| `{field.name.upper()}` | {_default(field)} | {purpose(field)} |\n" for field in msgspec.structs.fields(kind)
    )


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "*needed*"
    return "" if field.default in (None, "") else f"`{field.default}`"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
