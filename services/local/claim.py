"""One cluster at a time on a DATA_DIR."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.lifecycle import Unstartable


@contextmanager
def claimed(home: Path) -> Iterator[None]:
    """Hold DATA_DIR while the block runs; makes the folder. Raises `Unstartable` naming who has it.

    The kernel lets the lock go with the process, so a cluster that was killed leaves nothing to clean up.
    """
    make_home(home)
    with (home / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise Unstartable(
                f"DATA_DIR={home} is in use by the cluster with pid {pid}. "
                f"Stop that one (Ctrl-C in its terminal, or `kill {pid}`), or choose another DATA_DIR."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def taking_turns(home: Path) -> Iterator[None]:
    """Wait until no other command writes users and groups here: each reads them before it writes."""
    with (home / "people.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_home(home: Path) -> None:
    """Make DATA_DIR, for its owner only: tokens are signed with what lies in it. Raises `Unstartable`."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unstartable(f"DATA_DIR={home}: {error.strerror}. Choose a folder that you may write to.") from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise Unstartable(f"DATA_DIR={home} is not yours to write to. Choose another folder.")
