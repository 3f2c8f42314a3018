"""What the mutants that hang have in common: they do so once, so that the process that is started after is well."""

import asyncio
import os
from pathlib import Path


async def hang_if_told() -> None:
    """Never come back, if the file of `MUTANT_FILE` is there: it goes with the first who looks."""
    if _is_told():
        await asyncio.Event().wait()


def _is_told() -> bool:
    told = Path(os.environ["MUTANT_FILE"])
    if told.exists():
        told.unlink()
        return True
    return False
