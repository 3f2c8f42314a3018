"""What processes of this machine have used so far, from /proc."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from services.local.cluster import Cluster

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_s(cluster: Cluster) -> dict[str, float]:
    """CPU seconds, user and system, of each process of a cluster."""
    return {running.name: process_cpu_s(running.pid) for running in cluster.state().processes if running.pid}


def rss_kb(cluster: Cluster) -> dict[str, int]:
    """KB of memory in RAM of each process of a cluster."""
    return {running.name: process_rss_kb(running.pid) for running in cluster.state().processes if running.pid}


def by_role(cluster: Cluster, figures: dict[str, float]) -> dict[str, float]:
    """The same, added up by role."""
    found: dict[str, float] = {}
    for running in cluster.state().processes:
        found[running.role] = found.get(running.role, 0) + figures.get(running.name, 0)
    return found


def process_cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of one process: its threads', to the nanosecond, and its ended children's.

    The times in `stat` count ticks, and work in short bursts between them: 9 µs a delivery were told for 16.
    """
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    ran_ns = sum(int(thread.read_text(encoding="ascii").split()[0]) for thread in threads)
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return ran_ns / 1e9 + (int(fields[13]) + int(fields[14])) / _TICKS


def process_rss_kb(pid: int) -> int:
    """KB of memory in RAM of one process. `status` would be quicker to read, and off by a MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    return int(rollup.partition("Rss:")[2].split()[0])


def set_nice(pid: int, nice: int) -> int:
    """Give a process this priority, as far as this user may; what it has then.

    Where Linux groups processes by session (sched_autogroup), only the group's own priority counts beyond it.
    """
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():
            group.write_text(str(nice), encoding="ascii")
    return os.getpriority(os.PRIO_PROCESS, pid)
