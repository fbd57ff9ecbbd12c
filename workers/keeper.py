"""The keeper: a tiny program between the daemon and one CLI process, so that no tree outlives it.

    python -I -S keeper.py CONTROL_FD -- COMMAND [ARGUMENT …]

It starts COMMAND with the file descriptors 0, 1 and 2 it was given, which afterwards only the
command holds, and reports lines on the control socket: `started PID`, `failed ERRNO-NAME`,
`exited CODE` (negative: the signal), and last `swept N`, the number of processes that ended in
the sweep. It sweeps as soon as the command exits, or the daemon shuts its side of the control
socket down or dies, or SIGTERM comes; then it exits with 0. The order to kill is a shutdown and
no message: one that came during a sweep would stay unread, and a UNIX socket closed with unread
data answers its peer with ECONNRESET in place of the last report.

On Linux it is a sub-reaper: whatever double-forks, starts a session or scrubs its environment
still becomes its child when its parent ends, and "no child left" (ECHILD) proves that the tree
is gone. Elsewhere there is no such proof: what the tree's own processes no longer lead to has to
be found by the marker in its environment, which is the daemon's part. That branch (`ps`, process
group) has been run on Linux only, never on macOS.

A program of its own, importing nothing but quick parts of the standard library, because one of
these starts before every CLI process.
"""

import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h. The setting survives exec and is not inherited by children."""

ROUNDS = 10
"""How often the tree is listed to freeze it. A frozen tree does not grow, so two or three are
enough; more are needed only where members of the tree wake one another."""

CHILDREN_FILES = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""Whether the kernel lists children itself (Linux with CONFIG_PROC_CHILDREN)."""


class Keeper:
    """One command and everything that descends from it."""

    def __init__(self, control: int) -> None:
        self.control = control
        self.group = 0  # The command's process id, and that of its session and group.
        self.running = False  # The command has been started and not yet been reaped.
        self.reaped = 0
        # Signals wake the polls below through this pipe, so that none is lost between two polls.
        self.signals, wakeup = os.pipe()
        os.set_blocking(self.signals, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        # Ctrl-C and a closing terminal are the daemon's business: it drains, then tells us.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # Inherited from a daemon that blocks signals in its threads; the command inherits this.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def start(self, command: list[str]) -> None:
        """Start `command` and report it. Raises OSError when it cannot be executed."""
        failure, told = os.pipe()
        self.group = os.fork()
        if self.group == 0:
            execute(command, told)
        self.running = True
        os.close(told)
        reason = os.read(failure, 16)  # Empty when exec has closed the other end.
        os.close(failure)
        if reason:
            raise OSError(int(reason), os.strerror(int(reason)))
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        os.close(nothing)
        self.report(f"started {self.group}")

    def watch(self) -> None:
        """Return when the tree has to go; until then only reap what ends."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.signals, select.POLLIN)
        while self.running:
            ready = [fd for fd, _ in poll.poll()]
            if self.control in ready or signal.SIGTERM in self.drain_signals():
                return
            self.reap()

    def sweep(self) -> None:
        """Kill every descendant and reap it; return and report when none is left."""
        before = self.reaped
        frozen: set[int] = set()
        for _ in range(ROUNDS):
            if not freeze_tree(frozen):
                break
        for pid in frozen:
            send(pid, signal.SIGKILL)
        if sys.platform != "linux":
            with suppress(OSError):  # The group is empty.
                os.killpg(self.group, signal.SIGKILL)
        self.kill_children()
        self.report(f"swept {self.reaped - before}")

    def kill_children(self) -> None:
        """Kill children as they become ours, until there is none.

        What hops from process to process can only be caught by being quicker, so this does not
        rest while anything changes. When nothing does (a process is still dying, or waits for a
        disk, or may not be killed by us), it waits for the next SIGCHLD, 20 ms at most.
        """
        poll = select.poll()
        poll.register(self.signals, select.POLLIN)
        seen: list[int] = []
        while not self.reap():
            children = children_by_file(os.getpid()) if CHILDREN_FILES else [self.group]
            for pid in children:
                send(pid, signal.SIGKILL)
            if children == seen:
                poll.poll(20)
                self.drain_signals()
            seen = children

    def reap(self) -> bool:
        """Reap every child that has ended; return whether there is no child any more."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            self.reaped += 1
            if pid == self.group:
                self.running = False
                self.report(f"exited {os.waitstatus_to_exitcode(status)}")

    def report(self, line: str) -> None:
        with suppress(OSError):  # The daemon is gone; the work goes on without a witness.
            os.write(self.control, line.encode() + b"\n")

    def drain_signals(self) -> bytes:
        """The numbers of the signals that came since the last call."""
        with suppress(BlockingIOError):
            return os.read(self.signals, 4096)
        return b""


def execute(command: list[str], told: int) -> None:
    """In the forked child: become `command`, or write to `told` why not. Never returns."""
    try:
        # A session of its own: `kill 0` in one of the CLI's shells must not reach the keeper.
        os.setsid()
        # Python ignores SIGPIPE, and the daemon may ignore others: exec would pass that on.
        for number in range(1, signal.NSIG):
            with suppress(OSError, ValueError):  # SIGKILL, SIGSTOP, and two of the C library's.
                signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(told, str(error.errno).encode())
    finally:
        os._exit(127)


def freeze_tree(frozen: set[int]) -> bool:
    """Stop every descendant that is not in `frozen` and add it; return whether there was one.

    From the top down: a stopped parent cannot reap, so the ids of its children cannot pass to
    strangers between the listing and the signal, and our own children only we can reap.
    """
    children = children_by_file if CHILDREN_FILES else children_by_ps()
    grown = False
    line = children(os.getpid())
    visited = set(line)
    while line:
        pid = line.pop()
        if pid not in frozen:
            send(pid, signal.SIGSTOP)
            frozen.add(pid)
            grown = True
        below = [child for child in children(pid) if child not in visited]
        visited.update(below)
        line += below
    return grown


def children_by_file(parent: int) -> list[int]:
    """The children of `parent`; none when it has ended. Each of its threads has its own."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{parent}/task"):
            with suppress(OSError), open(f"/proc/{parent}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def children_by_ps() -> Callable[[int], list[int]]:
    """A function like `children_by_file`, of one snapshot of all processes."""
    import subprocess  # As slow to import as all the rest together, and not needed on Linux.

    families: dict[int, list[int]] = {}
    with suppress(OSError):
        ps = subprocess.Popen(["ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE)
        for line in ps.communicate()[0].splitlines():
            pid, parent = map(int, line.split())
            if pid != ps.pid:
                families.setdefault(parent, []).append(pid)
    return lambda parent: families.get(parent, [])


def send(pid: int, number: int) -> None:
    with suppress(OSError):  # It has ended, or it is another user's (set-uid): not ours to kill.
        os.kill(pid, number)


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own. Raises OSError."""
    if sys.platform == "linux":
        import ctypes

        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def main() -> None:
    control, command = int(sys.argv[1]), sys.argv[3:]
    os.set_inheritable(control, False)
    keeper = Keeper(control)
    if os.getsid(0) != os.getpid():
        os.setsid()
    try:
        adopt_orphans()
        keeper.start(command)
    except OSError as error:
        keeper.report(f"failed {errno.errorcode.get(error.errno or errno.EIO, 'EIO')}")
        return
    keeper.watch()
    keeper.sweep()
    os._exit(0)  # Nothing is left to tidy, and the daemon waits: the interpreter takes 2 ms.


if __name__ == "__main__":
    main()
