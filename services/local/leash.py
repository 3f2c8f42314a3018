"""Run as a script: become a command that dies with its parent. `leash.py PARENT_PID COMMAND…`

A supervisor that is killed with -9 can stop nobody. On Linux the kernel does it then, if each child
asked for it; asking between fork and exec (`preexec_fn`) is not safe in a process with threads, so a
child asks here, before it becomes the command. Elsewhere this only starts the command.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was asked
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - the command is the supervisor's own


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])
