"""Processes for a cluster that do nothing."""

import os
import random
import sys

from services.local import ports
from services.local.process import Process, Role
from tests.unit.services.local import fake_service


def free_port() -> int:
    """A port that other tests, running beside this one, are unlikely to choose."""
    return ports.free(1, "127.0.0.1", start=random.randrange(10_000, 30_000))[0]


def fake(name: str, port: int, *, role: Role = "gateway", restarts: bool = True, code: int | None = None) -> Process:
    """A service that is ready at `port`, or exits with `code`."""
    extra = () if code is None else (str(code),)
    return Process(
        name=name,
        role=role,
        command=(sys.executable, fake_service.__file__, str(port), *extra),
        environment=dict(os.environ),
        ports={"internal": port},
        restarts=restarts,
    )


def say_nothing(_: str) -> None:
    """For clusters whose lines nobody reads."""
