"""Finding and killing process trees from outside, where no keeper can do it any more.

Two ways lead to a process: its descent from one that is known, and the marker that the whole
tree inherits in its environment. Neither is a proof: what lost its parent and scrubbed its
environment is found by neither. So this is for the cases without a keeper: one that was killed,
a system that is not Linux, and what an earlier run of the daemon may have left.

Everything here but `make_environment` and `Hold` scans all processes, blocks, and belongs in a
thread. (Listing the descendants of one process took psutil 330 ms among 1,400 processes.)
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path

import psutil

MARKER = "MAXD_WORKER"
"""The variable whose value, `<instance>/<worker id>`, every process of a worker's tree inherits."""

OURS = ("TELEGRAM_BOT_TOKEN", "TELEGRAM_NOTIFY_ID", "TELEGRAM_API_BASE")
"""The daemon's own variables that do not begin with `MAXD_`."""

KEEPER = str(Path(__file__).with_name("keeper.py"))

ROUNDS = 10
"""As in the keeper: a frozen tree does not grow, so two or three are nearly always enough."""

CLEAN_SEARCHES = 3
"""What goes on as its own child every 0.5 ms escaped a single search in one of five kills."""

KEEPERS_NEED = 2.0
"""Seconds for the keepers of an earlier run to finish; the worst of 750 sweeps took 0.6 s."""

LEFT_BEHIND_NEED = 5.0
"""Seconds for killing what an earlier run has left: the deadline of any kill."""


def make_environment(base: Mapping[str, str], marker: str) -> dict[str, str]:
    """The environment of a worker's tree, made of the daemon's own.

    Without `MAXD_*` and OURS (the daemon's settings and keys are none of the CLI's business), and
    without what would tell the CLI that it runs inside another CLI; with `marker`.
    The auto-updater is off: it would replace the binary under the spares. So are background tasks:
    a reply cannot wait for them, and what they find after it would reach nobody.
    """
    nested = ("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT")
    kept = {
        name: value
        for name, value in base.items()
        if not name.startswith("MAXD_") and name not in (*nested, *OURS)
    }
    ours = {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1"}
    return kept | ours | {MARKER: marker}


class Hold:
    """A hold on one process, so that no signal reaches a stranger which was given its id.

    A pidfd on Linux. Elsewhere psutil, which compares start times; on Linux that was wrong in
    170 of 200 immediate reuses of an id. Raises OSError when there is no such process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = FileIO(os.pidfd_open(pid)) if hasattr(os, "pidfd_open") else None
        try:
            self.process = psutil.Process(pid)
        except psutil.Error as error:
            self.close()
            raise ProcessLookupError(f"no process {pid}") from error

    def send(self, number: int) -> bool:
        """Send a signal (0: only ask); return whether the process is there and ours to signal."""
        try:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd.fileno(), number)
            else:
                self.process.send_signal(number)
        except (OSError, ValueError, psutil.Error):  # ValueError: after `close`.
            return False
        return True

    def wait_end(self, seconds: float) -> None:
        """Wait until it has ended, at most so long; reap it if it has become our own child.

        That is so where the daemon is process 1 of a container. psutil would wait on until the
        process has been reaped, which a careless process 1 never does.
        """
        if self._pidfd is None:
            with suppress(psutil.TimeoutExpired):
                self.process.wait(seconds)
            return
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        if ended.poll(seconds * 1000):
            with suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)

    def parent(self) -> int | None:
        """The id of its parent; None when it is gone."""
        try:
            return self.process.ppid()
        except psutil.Error:
            return None

    def is_alive(self) -> bool:
        """False also for a zombie, which takes signals as if it lived."""
        try:
            return self.send(0) and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def close(self) -> None:
        if self._pidfd is not None:
            self._pidfd.close()


def kill_tree(
    belongs: Callable[[str], bool], root: Hold | None, seconds: float
) -> tuple[set[int], bool]:
    """Kill every process whose marker `belongs`, `root`, and all their descendants.

    Freezes first and lists again until nothing new is found, then kills, then looks again.
    Returns the ids of what it killed, and whether nothing was found any more within `seconds`.
    Never touches this process or its ancestors. `root` stays open.
    """
    deadline = time.monotonic() + seconds
    spared = _own_line()
    killed: set[int] = set()
    found_nothing = 0
    while True:
        with ExitStack() as closing:
            held = _freeze_tree(belongs, root, spared, closing)
            found_nothing = 0 if held else found_nothing + 1
            if found_nothing == CLEAN_SEARCHES:
                return killed, True
            for hold in held.values():
                hold.send(signal.SIGKILL)
            killed |= held.keys()
            patience = time.monotonic() + 0.2
            for hold in held.values():
                hold.wait_end(max(0.0, patience - time.monotonic()))
        if time.monotonic() > deadline:
            return killed, False


def kill_left_behind(instance: str) -> list[int]:
    """Kill what earlier runs of `instance` left behind; return the ids.

    Keepers are told first, and given time: they find what this cannot.
    """

    def belongs(marker: str) -> bool:
        return marker.startswith(f"{instance}/")

    spared = _own_line()
    found = [
        process
        for process in _processes()
        if process.pid not in spared and belongs(_marker(process) or "")
    ]
    keepers = [process for process in found if _is_keeper(process)]
    for keeper in keepers:
        with suppress(psutil.Error):  # It has ended by itself.
            keeper.terminate()
    psutil.wait_procs(keepers, timeout=KEEPERS_NEED)
    killed, _ = kill_tree(belongs, None, LEFT_BEHIND_NEED)
    return sorted(killed.union(process.pid for process in found))


def _freeze_tree(
    belongs: Callable[[str], bool], root: Hold | None, spared: set[int], closing: ExitStack
) -> dict[int, Hold]:
    """Stop all that can be found, until nothing new is found; return it by process id."""
    held: dict[int, Hold] = {}
    for _ in range(ROUNDS):
        before = len(held)
        if root is not None and root.pid not in held and root.is_alive():
            root.send(signal.SIGSTOP)
            held[root.pid] = root
        for process in _processes():
            if process.pid in held or process.pid in spared:
                continue
            if not _is_of_tree(process, held, belongs):
                continue
            try:
                hold = Hold(process.pid)
            except OSError:
                continue
            closing.callback(hold.close)
            # Asked again, now that the process cannot be replaced by another with its id.
            if _is_of_tree(hold.process, held, belongs) and hold.send(signal.SIGSTOP):
                held[hold.pid] = hold
        if len(held) == before:
            break
    return held


def _is_of_tree(
    process: psutil.Process, held: Mapping[int, Hold], belongs: Callable[[str], bool]
) -> bool:
    try:
        if process.ppid() in held and process.status() != psutil.STATUS_ZOMBIE:
            return True
    except psutil.Error:
        return False
    return belongs(_marker(process) or "")


def _processes() -> Iterator[psutil.Process]:
    """Every process, looked at afresh: `psutil.process_iter` would answer from a cache."""
    for pid in psutil.pids():
        with suppress(psutil.Error):
            yield psutil.Process(pid)


def _own_line() -> set[int]:
    """This process and its ancestors: the daemon may have been started from a worker's shell."""
    return {os.getpid(), *(ancestor.pid for ancestor in psutil.Process().parents())}


def _marker(process: psutil.Process) -> str | None:
    """The marker in its environment; None for a zombie and for another user's process."""
    try:
        return process.environ().get(MARKER)
    except (psutil.Error, OSError):
        return None


def _is_keeper(process: psutil.Process) -> bool:
    try:
        return KEEPER in process.cmdline()[:5]
    except psutil.Error:
        return False
