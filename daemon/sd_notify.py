"""What the service manager is told: systemd's notification protocol (sd_notify(3)), by hand.

It is one datagram of `NAME=value` lines to the socket named in `NOTIFY_SOCKET`. Where there is no
such socket, nothing is sent and nothing fails.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

VARIABLES: Final = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PIDFDID",
        "FDSTORE",
        "MAINPID",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
    }
)
"""What the service manager says to this process alone: not for workers, which could otherwise
speak in its name."""

# systemctl shows the first line; a longer one helps nobody.
_LONGEST_STATUS: Final = 300


class Announcer:
    """Tells the service manager of this process how it goes. No call blocks or raises: a manager
    that does not listen must not stop the service."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        # What is said of the service from then on would contradict it.
        self._stopping = False
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self.watchdog_seconds = watchdog_seconds(environ) if self._socket else None
        """How often the watchdog wants to hear something; None where there is none."""

    def close(self) -> None:
        """Say nothing from now on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str) -> None:
        """Started, or reloaded. Nothing once it is stopping."""
        if not self._stopping:
            self._send("READY=1", _status(status))

    def status(self, status: str) -> None:
        """One line for `systemctl status`; nothing once it is stopping."""
        if not self._stopping:
            self._send(_status(status))

    def alive(self) -> None:
        """The watchdog's sign of life."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        # Type=notify-reload compares this with the time of its own request.
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self, status: str) -> None:
        """On its way out."""
        self._stopping = True
        self._send("STOPPING=1", _status(status))

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        # The manager restarts, or its queue is full: the next sign of life will be heard.
        with suppress(OSError):
            self._socket.sendto("\n".join(lines).encode(), self._address)


def watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """How often `alive` must be called: half of what the manager allows. None if nobody waits for
    it, or waits for another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 2_000_000


def _address(name: str) -> bytes:
    """The socket's address; empty if there is none that can be spoken to."""
    if name.startswith("@") and len(name) > 1:
        # An abstract socket: its name begins with NUL.
        return b"\0" + os.fsencode(name[1:])
    return os.fsencode(name) if name.startswith("/") else b""


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())[:_LONGEST_STATUS]
