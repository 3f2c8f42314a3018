# ruff: noqa: INP001 - found by its name, in no package
"""Python imports this at its start in processes whose clock can be stepped: libfaketime refuses `time.sleep` otherwise.

`time.sleep` asks for a moment of the monotonic clock, for which libfaketime 0.9.10 gives EINVAL; `select` takes a span.
"""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex, /) -> None:
    select.select((), (), (), float(seconds))


time.sleep = _sleep
