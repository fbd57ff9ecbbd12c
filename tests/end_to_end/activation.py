"""A small stand-in for systemd: it holds the sockets, starts the daemon with them, and listens to
what the daemon notifies."""

import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue

from tests.end_to_end.running import START_SECONDS, DaemonProcess

FAKE_CLI = str(Path(__file__).parents[1] / "fakes" / "fake_cli.py")

# Between fork and exec, as systemd does it: the sockets become 3 and following, and the process
# learns its own id.
LAUNCHER = """
import os, sys
for number, fd in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(fd, 200 + number)
count = number + 1
for number in range(count):
    os.dup2(200 + number, 3 + number)
    os.close(200 + number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Manager:
    """Holds one TCP socket, and an operator's UNIX socket if it is given a path."""

    def __init__(self, root: Path, base_url: str, variables: Mapping[str, str]) -> None:
        self._root = root
        self._base_url = base_url
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.base = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.admin: socket.socket | None = None
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = root / "notify"
        self._notified.bind(str(path))
        self.messages: list[str] = []
        self._queue: SimpleQueue[str] = SimpleQueue()
        self._variables = {"NOTIFY_SOCKET": str(path), **variables}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def listen_admin(self, path: Path) -> None:
        self.admin = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.admin.bind(str(path))
        self.admin.listen()

    def start(self) -> DaemonProcess:
        """The daemon, which has all of it yet to do."""
        sockets = [self.listener, *([self.admin] if self.admin else [])]
        names = ["maxd.socket", *(["admin"] if self.admin else [])]
        fds = [sock.fileno() for sock in sockets]
        command = [sys.executable, "-c", LAUNCHER, ",".join(map(str, fds))]
        return DaemonProcess(
            self._root,
            self._base_url,
            self._variables | {"LISTEN_FDNAMES": ":".join(names)},
            command=[*command, "-m", "maxd.daemon", "serve"],
            pass_fds=fds,
        )

    def wait(self, line: str, seconds: float = START_SECONDS) -> str:
        """The next message that has a line beginning so."""
        while True:
            try:
                message = self._queue.get(timeout=seconds)
            except Empty:
                raise AssertionError(f"no {line!r} among {self.messages}") from None
            if any(each.startswith(line) for each in message.splitlines()):
                return message

    def forget(self) -> None:
        """Wait for no message that has come already."""
        while not self._queue.empty():
            self._queue.get()

    def _read(self) -> None:
        while message := self._notified.recv(65536):
            self.messages.append(message.decode())
            self._queue.put(message.decode())

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self._notified.getsockname())
            sock.send(b"")
        self._reader.join(START_SECONDS)
        for each in (self.listener, self.admin, self._notified):
            if each is not None:
                each.close()


def fake_cli_variables(**more: str) -> dict[str, str]:
    """A daemon that is quick to start: one kind of spare, of the fake CLI."""
    return {
        "CLAUDE_CLI": FAKE_CLI,
        "MAXD_POOL_WARM": "sonnet:chat",
        "MAXD_POOL_REUSE": "false",
        "PATH": os.environ["PATH"],
        **more,
    }
