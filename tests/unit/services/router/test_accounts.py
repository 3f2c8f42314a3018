"""Accounts are looked at in the background: who is void is revoked, and nobody is asked about for each token."""

import asyncio
from collections.abc import Collection, Mapping

import pytest
from prometheus_client import CollectorRegistry

from libs.clock import now_ms
from services.router.accounts import Account, Accounts, Away
from services.router.metrics import RouterMetrics
from tests.support.waiting import until


class FakeIdentity:
    """Knows some accounts; away while told so."""

    def __init__(self, **accounts: Account) -> None:
        self.accounts = accounts
        self.asked: list[set[str]] = []
        self.revoked: list[str] = []
        self.is_away = False

    async def look(self, user_ids: Collection[str]) -> Mapping[str, Account]:
        if self.is_away:
            raise Away("no route")
        self.asked.append(set(user_ids))
        return {user_id: self.accounts[user_id] for user_id in user_ids if user_id in self.accounts}

    async def revoke(self, user_id: str) -> None:
        if self.is_away:
            raise Away("no route")
        self.revoked.append(user_id)


class Scene:
    """Accounts over a fake service, and what they had revoked."""

    def __init__(self, **accounts: Account) -> None:
        self.now_s = 0.0
        self.identity = FakeIdentity(**accounts)
        self.voided: dict[str, int] = {}
        self.metrics = RouterMetrics(CollectorRegistry())
        self.accounts = Accounts(self.identity, self.revoke, self.metrics, lambda: self.now_s)

    async def revoke(self, user_id: str, valid_after_ms: int) -> None:
        self.voided[user_id] = valid_after_ms


async def test_a_sign_in_that_is_void_is_revoked() -> None:
    """Disabled, deleted, or revoked since; a newer sign-in of one who was revoked before is good."""
    scene = Scene(
        asha=Account(),
        bala=Account(is_disabled=True),
        chitra=Account(valid_after_ms=5000),
        devi=Account(valid_after_ms=5000),
    )
    before = now_ms()
    for user_id, issued_at_ms in (
        ("asha", 1),
        ("bala", before),
        ("chitra", 4999),
        ("devi", 5000),
        ("gone", before - 1),
    ):
        scene.accounts.note_nowait(user_id, issued_at_ms)
    await scene.accounts.turn()
    assert scene.identity.asked == [{"asha", "bala", "chitra", "devi", "gone"}]
    assert set(scene.voided) == {"bala", "chitra", "gone"}
    assert scene.voided["chitra"] == 5000
    assert scene.voided["bala"] > before


async def test_who_was_looked_at_lately_is_not_looked_at_again() -> None:
    """A phone that comes and goes costs one look in ten minutes."""
    scene = Scene(asha=Account())
    for scene.now_s in (0.0, 1.0, 599.0, 601.0):
        scene.accounts.note_nowait("asha", 1)
        await scene.accounts.turn()
    assert scene.identity.asked == [{"asha"}, {"asha"}]


async def test_thousands_who_sign_in_at_once_are_looked_at_by_the_hundred() -> None:
    """As many as one call takes."""
    scene = Scene(**{f"u{number}": Account() for number in range(250)})
    for number in range(250):
        scene.accounts.note_nowait(f"u{number}", 1)
    for _ in range(3):
        await scene.accounts.turn()
    assert [len(asked) for asked in scene.identity.asked] == [100, 100, 50]
    assert not scene.voided


async def test_the_oldest_of_several_sign_ins_is_judged() -> None:
    """One user, a phone that signed in anew and one that did not."""
    scene = Scene(asha=Account(valid_after_ms=5000))
    scene.accounts.note_nowait("asha", 6000)
    scene.accounts.note_nowait("asha", 4000)
    await scene.accounts.turn()
    assert scene.voided == {"asha": 5000}


async def test_nobody_is_forgotten_while_firebase_is_away() -> None:
    """Who is signed in stays; they are looked at once it is back, and operators' revocations are told then."""
    scene = Scene(asha=Account(is_disabled=True))
    scene.identity.is_away = True
    scene.accounts.note_nowait("asha", 1)
    scene.accounts.note_revoked_nowait("bala")
    with pytest.raises(Away):
        await scene.accounts.turn()
    scene.identity.is_away = False
    await scene.accounts.turn()
    assert scene.identity.revoked == ["bala"]
    assert list(scene.voided) == ["asha"]
    await scene.accounts.turn()
    assert scene.identity.revoked == ["bala"]


async def test_the_loop_outlives_a_service_that_is_away() -> None:
    """And goes on by itself."""
    scene = Scene(asha=Account())
    running = asyncio.create_task(scene.accounts.run())  # noqa: TID251 - ended below
    scene.accounts.note_nowait("asha", 1)
    await until(lambda: scene.identity.asked == [{"asha"}], 10, "a look")
    running.cancel()
