"""Who gets what through which gateway: the plan of a batch of direct messages, and of one to a large group."""

from typing import Any

import pytest

from libs.wire.frames import Answer
from services.router import routing
from services.router.routing import Saying, ToSession, ToUsers

TOKENS = dict.fromkeys(range(8), 1)


def direct(messages: int) -> list[Saying]:
    """All that is said of some direct messages: the answer, two to the sender's devices, the message, `delivered`."""
    return [
        saying
        for n in range(messages)
        for saying in (
            ToSession(n % 8, "g1", Answer(f"session{n}", n, b"{}")),
            ToUsers(n % 8, (f"a{n}",), "message_delivery_status", b"{}", skip_session=f"session{n}"),
            ToUsers(n % 8, (f"b{n}",), "new_message", b"{}", f"direct:a{n}:b{n}", 1),
            ToUsers(n % 8, (f"a{n}",), "new_message", b"{}", skip_session=f"session{n}"),
            ToUsers(n % 8, (f"a{n}",), "message_delivery_status", b"{}"),
        )
    ]


@pytest.mark.benchmark(group="plan")
def test_plan_of_fifty_direct_messages(benchmark: Any) -> None:
    """Everyone on one gateway."""
    seats = {f"a{n}": ("g1",) for n in range(50)} | {f"b{n}": ("g2",) for n in range(50)}
    assert set(benchmark(routing.plan, direct(50), seats, TOKENS)) == {"g1", "g2"}


@pytest.mark.benchmark(group="plan")
def test_plan_of_a_message_to_five_hundred(benchmark: Any) -> None:
    """On two gateways: a frame for each."""
    users = tuple(f"user{n}" for n in range(500))
    seats = {user: (f"g{n % 2}",) for n, user in enumerate(users)}
    planned = benchmark(routing.plan, [ToUsers(0, users, "new_message", b"{}", "group:big", 1)], seats, TOKENS)
    assert [len(sections) for sections in planned.values()] == [1, 1]


@pytest.mark.benchmark(group="plan")
def test_audience_of_fifty_direct_messages(benchmark: Any) -> None:
    """Whom the directory is asked for."""
    assert len(benchmark(routing.audience, direct(50))) == 100
