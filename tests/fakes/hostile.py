"""Process trees that are hard to kill. Run as `hostile.py SHAPE TOKEN`; see SHAPES.

Prints `ready` when its tree stands. TOKEN stays in the command line of every process, whatever it
does to its environment, so that survivors can be found without the code under test. What is not
killed ends by itself: whatever waits has an alarm, and whatever multiplies or hops is bounded.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

LIFETIME = 60  # Seconds.
STORM_SIZE = 30  # Processes that stand and fork on.
STORM_FORKS = 50  # What each of them forks: processes that fork once and live for 50 ms.
HOPS = 5_000  # About 3 s.

TOKEN = sys.argv[2]
STANDING = os.pipe()
"""Every process that is in place writes a byte here."""


def stand(fd: int = STANDING[1]) -> None:
    os.write(fd, b".")


def wait_standing(count: int) -> None:
    while count:
        count -= len(os.read(STANDING[0], count))


def forever() -> None:
    signal.alarm(LIFETIME)
    while True:
        signal.pause()


def fork(*actions: Callable[[], object]) -> None:
    """A child that does `actions`, then waits for its end."""
    if os.fork() == 0:
        try:
            for action in actions:
                action()
            forever()
        finally:
            os._exit(0)


def ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def orphan(*actions: Callable[[], object]) -> None:
    """Double fork: a process in a session of its own, whose parent has ended."""
    fork(os.setsid, lambda: fork(*actions), lambda: os._exit(0))


def storm_on() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Leaves no zombies.
    stand()
    for _ in range(STORM_FORKS):
        fork(lambda: fork(lambda: time.sleep(0.05), lambda: os._exit(0)), lambda: os._exit(0))


def hop() -> None:
    """Go on as one's own child, again and again, each in a new session."""
    stand()
    for _ in range(HOPS):
        if os.fork() != 0:
            os._exit(0)
        os.setsid()


def scrub() -> None:
    """Go on with an empty environment."""
    fd = STANDING[1]
    os.set_inheritable(fd, True)
    script = os.path.abspath(__file__)
    os.execve(sys.executable, [sys.executable, "-I", "-S", script, "bare", TOKEN, str(fd)], {})


def plain() -> int:
    fork(stand, lambda: fork(stand))
    return 2


def deaf() -> int:
    ignore_signals()
    return plain()


def stopped() -> int:
    fork(lambda: fork(stand, stop), stand, stop)
    return 2


def group() -> int:
    fork(os.setpgrp, lambda: fork(os.setpgrp, stand), stand)
    return 2


def session() -> int:
    fork(os.setsid, lambda: fork(os.setsid, stand), stand)
    return 2


def double_fork() -> int:
    orphan(stand, lambda: orphan(stand))
    return 2


def storm() -> int:
    for _ in range(STORM_SIZE):
        fork(storm_on)
    return STORM_SIZE


def hopper() -> int:
    fork(hop)
    return 1


def scrubbed() -> int:
    orphan(scrub)
    fork(scrub)
    return 2


def pipe() -> int:
    """Holds stdout in another session, deaf; the others hold it too, but die more easily."""
    fork(os.setsid, ignore_signals, lambda: fork(stand))
    return 1


def leaver() -> int:
    """As `pipe`, but the first process ends by itself."""
    orphan(ignore_signals, stand)
    return 1


def mixture() -> int:
    ignore_signals()
    shapes = (plain, stopped, group, session, double_fork, hopper, scrubbed, pipe)
    count = sum(shape() for shape in shapes)
    for _ in range(5):
        fork(storm_on)
    return count + 5


SHAPES = {
    shape.__name__: shape
    for shape in (
        plain,
        deaf,
        stopped,
        group,
        session,
        double_fork,
        storm,
        hopper,
        scrubbed,
        pipe,
        leaver,
        mixture,
    )
}


def main() -> None:
    if sys.argv[1] == "bare":
        stand(int(sys.argv[3]))
    else:
        wait_standing(SHAPES[sys.argv[1]]())
        os.write(1, b"ready\n")
        if sys.argv[1] == "stopped":
            stop()
        if sys.argv[1] == "leaver":
            return
    forever()


if __name__ == "__main__":
    main()
