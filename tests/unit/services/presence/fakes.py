"""Fakes: a record of when people were last seen, which can be away."""

from collections.abc import Collection, Mapping

from libs.storage import StoreAway


class FakeLastSeen:
    """Times in a dict."""

    def __init__(self, times: Mapping[str, int] | None = None) -> None:
        self.times = dict(times or {})
        self.is_away = False

    async def seen(self, users: Collection[str]) -> dict[str, int]:
        self._check()
        return {user: self.times[user] for user in users if user in self.times}

    async def save(self, seen: Mapping[str, int]) -> None:
        self._check()
        for user, at_ms in seen.items():
            self.times[user] = max(at_ms, self.times.get(user, 0))

    def _check(self) -> None:
        if self.is_away:
            raise StoreAway
