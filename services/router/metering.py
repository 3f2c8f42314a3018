"""The store, with its calls timed and its failures counted: what it costs, whichever it is.

By name, so that a call that the contract gains is counted as well; the names are those of the contract, and bounded.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from services.router.metrics import RouterMetrics
from services.router.store import Store, StoreAway


class _Metered:
    """Hands everything on."""

    def __init__(self, store: Store, metrics: RouterMetrics) -> None:
        self._store = store
        self._metrics = metrics

    @property
    def busy_s(self) -> float:
        """See `Store`."""
        return self._store.busy_s

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._store, name)
        took = self._metrics.store_s.labels(name)
        failed = self._metrics.store_errors.labels(name)

        async def timed(*given: Any, **named: Any) -> Any:
            began = time.monotonic()
            try:
                found = await call(*given, **named)
            except StoreAway:
                failed.inc()
                raise
            took.observe(time.monotonic() - began)
            return found

        # Found there from now on, so that this runs once for each call.
        setattr(self, name, timed)
        return timed


def metered(store: Store, metrics: RouterMetrics) -> Store:
    """The same store."""
    return cast(Store, _Metered(store, metrics))
