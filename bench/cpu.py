"""Processor time of a process tree."""

import time
from contextlib import suppress

import psutil

LOOK_SECONDS = 0.3
# psutil reads ticks of 10 ms, and an idle server wakes up now and then.
QUIET_SECONDS = 0.02
SETTLE_SECONDS = 10.0


def cpu_of_tree(root: int) -> float:
    """Seconds of CPU that `root`, what descends from it and lives, and all that any of them has
    reaped have used since they started."""
    total = 0.0
    process = psutil.Process(root)
    for member in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = member.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def settled_cpu_of_tree(root: int) -> float:
    """The same once the tree has come to rest: what a request leaves to be done (a replacement to
    be started, a process to be ended) belongs to its price. Gives up waiting after 10 s."""
    deadline = time.monotonic() + SETTLE_SECONDS
    before = cpu_of_tree(root)
    while time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        now = cpu_of_tree(root)
        if abs(now - before) < QUIET_SECONDS:
            return now
        before = now
    return before
