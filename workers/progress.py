"""Looks at what a running turn's process tree has used, and waits for the turn to be overdue."""

import math
import os
import time
from contextlib import suppress
from functools import partial

import psutil
import trio

from maxd.workers.activity import ProcessKey, Sample, TurnWatch, Used
from maxd.workers.faults import TurnTimedOut
from maxd.workers.keeper import CHILDREN_FILES, children_by_file
from maxd.workers.profiles import Profile

TICKS = os.sysconf("SC_CLK_TCK")
# A look that takes longer has met a process whose files block; it counts as no look.
LOOK_SECONDS = 5.0


def began_now() -> float:
    """This moment on the clock by which `sample_tree` tells when a process began: seconds since
    the machine started, with the time it was suspended; elsewhere than on Linux, since 1970."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if CHILDREN_FILES else time.time()


def watch_turn(profile: Profile) -> TurnWatch:
    """The watch of a turn that begins now."""
    return TurnWatch(
        silence_seconds=profile.activity_minutes * 60 or math.inf,
        turn_seconds=profile.turn_minutes * 60 or math.inf,
        began=began_now(),
        now=trio.current_time(),
    )


async def wait_overdue(watch: TurnWatch, root: int) -> TurnTimedOut | None:
    """Wait until the turn has to end, and return the fault to end it with; None when it is over
    before.

    `root` is the process id of the tree's keeper, which inherits what loses its parent. The tree
    is sampled in a thread, only while the turn is silent. Cancelling leaves nothing behind.
    """
    while not watch.over:
        await trio.sleep_until(watch.due(trio.current_time()))
        if watch.over or not watch.woke(trio.current_time()):
            continue
        found: Sample | None = None
        cost = 0.0
        with trio.move_on_after(LOOK_SECONDS):
            look = partial(_look, root)
            found, cost = await trio.to_thread.run_sync(look, abandon_on_cancel=True)
        # It may have ended, or have spoken, meanwhile.
        fault = watch.judge(found, cost, trio.current_time())
        if fault is not None and not watch.over:
            return fault
    return None


def _look(root: int) -> tuple[Sample, float]:
    began = time.thread_time()
    return sample_tree(root), time.thread_time() - began


def sample_tree(root: int) -> Sample:
    """What `root` and all its descendants have used; those that end meanwhile are left out.

    Takes 0.1 ms for a process with few threads. (psutil needs 330 ms to list the descendants of
    one process among 1,400.)
    """
    return _sample_proc(root) if CHILDREN_FILES else sample_by_psutil(root)


def _sample_proc(root: int) -> Sample:
    found: dict[ProcessKey, Used] = {}
    line, visited = [root], {root}
    while line:
        pid = line.pop()
        with suppress(OSError, ValueError, IndexError):
            key, used = _read_proc(pid)
            found[key] = used
        below = [child for child in children_by_file(pid) if child not in visited]
        visited.update(below)
        line += below
    return found


def _read_proc(pid: int) -> tuple[ProcessKey, Used]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        text = file.read()
    # From the third field on; the second is the program's name, which may hold anything.
    fields = text[text.rindex(b")") + 2 :].split()
    ticks = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    read = written = 0
    with suppress(OSError):  # Another user's (set-uid): its CPU is told, its bytes are not.
        with open(f"/proc/{pid}/io", "rb") as file:
            lines = file.read().split(b"\n")
        # What passes read() and write(), pipes and what is written to sockets included. Not what
        # reaches the disk: the pages of a program that are read back are no progress of it.
        read, written = (int(line.partition(b":")[2]) for line in lines[:2])
    return (pid, int(fields[19]) / TICKS), Used(ticks / TICKS, read, written)


def sample_by_psutil(root: int) -> Sample:
    """`sample_tree` for systems without the kernel's own lists of children."""
    found: dict[ProcessKey, Used] = {}
    with suppress(psutil.Error):
        keeper = psutil.Process(root)
        for process in [keeper, *keeper.children(recursive=True)]:
            with suppress(psutil.Error):
                key = process.pid, process.create_time()
                found[key] = Used(sum(process.cpu_times()[:4]))
    return found
