"""The sockets that are listened on: the network's, UNIX ones, and those that were handed over."""

import ipaddress
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from maxd.daemon.inherited import ADMIN, inherited_sockets
from maxd.daemon.settings import Server
from maxd.http.server import BACKLOG, open_sockets

# sockaddr_un has room for 108 bytes on Linux and 104 on macOS, a final NUL included.
LONGEST_PATH = 103


class SocketTaken(Exception):
    """The path of a UNIX socket cannot be listened on."""


class Listeners(Struct, kw_only=True):
    """What is listened on. `main` serves all routes, unless `admin` is there for the operator's
    pages. `handed_over`: the service manager holds the same sockets and hands them to the next
    daemon too. `paths` are the UNIX sockets that this process has made."""

    main: list[socket.socket]
    admin: list[socket.socket]
    handed_over: bool = False
    paths: list[tuple[str, int]]

    @property
    def where(self) -> str:
        """The address that clients are told: an URL, or the path of a UNIX socket."""
        return describe(self.main[0])

    @property
    def exposed(self) -> str | None:
        """An address of them that other machines can reach; None if there is none."""
        for sock in (*self.main, *self.admin):
            name = sock.getsockname()
            if isinstance(name, tuple) and not ipaddress.ip_address(name[0]).is_loopback:
                return describe(sock)
        return None

    def close(self) -> None:
        """Close what is still open and remove the UNIX sockets of this process, but not one that
        somebody else has put in their place."""
        for sock in (*self.main, *self.admin):
            sock.close()
        for path, inode in self.paths:
            with suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)


def open_listeners(settings: Server, environ: Mapping[str, str]) -> Listeners:
    """Listen on what was handed over, else on `host` and `port`; and on the UNIX sockets of the
    settings. To be called under the lock of the state directory: a dead UNIX socket is replaced.

    Raises PortTaken, SocketTaken, NotASocket or OSError; then nothing stays open.
    """
    listeners = Listeners(main=[], admin=[], paths=[])
    try:
        for name, sock in inherited_sockets(environ):
            (listeners.admin if name == ADMIN else listeners.main).append(sock)
            listeners.handed_over = True
        if not listeners.main:
            listeners.main += open_sockets(settings.host, settings.port)
        if settings.unix_socket:
            listeners.main.append(_open_path(settings.unix_socket, listeners))
        if settings.admin_socket and not listeners.admin:
            listeners.admin.append(_open_path(settings.admin_socket, listeners))
    except BaseException:  # Also what nobody expects; the caller gets it, and nothing stays open.
        listeners.close()
        raise
    return listeners


def describe(sock: socket.socket) -> str:
    """How a client names it: `http://127.0.0.1:3456`, `unix:/run/maxd.sock`."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
        return f"http://{host}:{name[1]}"
    return f"unix:{os.fsdecode(name)}"


def _open_path(configured: str, listeners: Listeners) -> socket.socket:
    path = os.fspath(Path(configured).expanduser())
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise SocketTaken(f"{path} is too long for a UNIX socket ({LONGEST_PATH} bytes)")
    _remove_dead(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode is the socket's from its first moment on; a chmod would come too late.
    mask = os.umask(0o177)
    try:
        sock.bind(path)
        listeners.paths.append((path, os.stat(path).st_ino))
        sock.listen(BACKLOG)
    except BaseException:  # The same.
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def _remove_dead(path: str) -> None:
    """Remove the socket that an earlier run has left at `path`. Raises SocketTaken for a socket
    that somebody listens on, and for anything else that is there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketTaken(f"{path} is there already and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # It waits for nothing: a listener whose queue is full says EAGAIN, and is alive.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            pass
        except OSError as error:
            raise SocketTaken(f"{path} cannot be listened on: {error.strerror}") from error
        else:
            raise SocketTaken(f"another program listens on {path}")
    with suppress(FileNotFoundError):
        os.unlink(path)
