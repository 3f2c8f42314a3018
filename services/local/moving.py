"""`talowa import-firestore`: a look through the database of the server before this one, and its messages' places.

Imported when it is asked for: Google's libraries take a second.
"""

from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from libs.clock import now_ms
from libs.storage.firestore.client import open_client
from libs.storage.firestore.settings import Limits, Place
from services.router.firestore.moving import Moving, Report

# A person waits, and would rather wait longer than begin again.
_LIMITS: Final = Limits(patience_s=60.0)
_DAY_MS: Final = 24 * 3600 * 1000


async def move(place: Place, file: Path, console: Console, *, fills: bool, owed_days: int) -> int:
    """Look, report, and fill if asked to; 1 if there is more to do. Raises `StoreAway`, `Unstartable`.

    `file` keeps what was found: a look or a filling that was interrupted goes on from there.
    """
    async with open_client(place, _LIMITS) as client:
        house = Moving(client, file)
        try:
            if house.is_looked_through and not fills:
                house.forget()
            if not house.is_looked_through:
                with _progress(console) as progress:
                    await house.look(_Bars(progress).told)
            report = house.report()
            _show(report, console)
            if not fills:
                if report.fitting:
                    console.print("nothing was written. Fill in their places with: --fill")
                return 0
            with _progress(console) as progress:
                filled = await house.fill(now_ms() - owed_days * _DAY_MS, _Bars(progress).told)
            house.forget()
        finally:
            house.close()
    console.print(f"{filled.messages:,} messages have their places")
    if filled.changed:
        console.print(f"{filled.changed:,} conversations were written to meanwhile: do it again.")
    return 1 if filled.changed else 0


class _Bars:
    """A bar for each collection."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def told(self, collection: str, done: int, total: int) -> None:
        """How far it is."""
        if collection not in self._tasks:
            self._tasks[collection] = self._progress.add_task(collection)
        self._progress.update(self._tasks[collection], completed=done, total=total)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<13}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )


def _show(report: Report, console: Console) -> None:
    for finding in report.findings:
        more = ", …" if finding.count > len(finding.examples) else ""
        console.print(f"{finding.count:>9,}  {finding.what} ({escape(', '.join(finding.examples))}{more})")
    console.print(f"{report.fitting:>9,}  messages of {report.conversations:,} conversations have no place yet")
