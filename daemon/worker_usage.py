"""CPU and memory of the workers' processes, read in a thread and kept until the next look."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Final

import psutil
import trio

from maxd.daemon.status import Used

IDLE_SECONDS: Final = 10.0
"""Between two looks when nobody asks."""

LEAST_SECONDS: Final = 1.0
"""Between two looks however often it is asked."""


class WorkerUsage:
    """`used` is what the last look has found, by the id of the process.

    Of each only the CLI itself is read, not what its tools have started: listing the descendants
    of all workers would take as long as everything else together.
    """

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, float]] = {}
        self._wanted = trio.Event()
        self.used: Mapping[int, Used] = {}

    def look(self) -> None:
        """Somebody asks: look again soon. Never blocks."""
        self._wanted.set()

    async def run(self, pids: Callable[[], list[int]]) -> None:
        """Look every now and then, until cancelled. `pids` tells which processes there are."""
        while True:
            found = await trio.to_thread.run_sync(_read, pids())
            self.used = {pid: self._use(pid, *figures) for pid, figures in found.items()}
            self._before = {pid: (at, cpu) for pid, (at, cpu, _) in found.items()}
            await trio.sleep(LEAST_SECONDS)
            with trio.move_on_after(IDLE_SECONDS - LEAST_SECONDS):
                await self._wanted.wait()
            self._wanted = trio.Event()

    def _use(self, pid: int, at: float, cpu: float, memory: int) -> Used:
        before_at, before_cpu = self._before.get(pid, (math.nan, 0.0))
        percent = 100 * (cpu - before_cpu) / (at - before_at) if at > before_at else None
        # Less than before: another process has been given the id.
        known = percent is not None and percent >= 0
        return Used(cpu=round(percent, 1) if known and percent is not None else None, memory=memory)


def _read(pids: list[int]) -> dict[int, tuple[float, float, int]]:
    """Of each process that is there: the moment, its CPU time in seconds, its memory in bytes."""
    found = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                memory = process.memory_info().rss
        # OSError: no file is left to open. The next look may find more.
        except (psutil.Error, OSError):
            continue
        found[pid] = (time.monotonic(), times.user + times.system, memory)
    return found
