"""Listening sockets that the service manager has opened and hands over (sd_listen_fds(3))."""

import os
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

FIRST_FD: Final = 3
ADMIN: Final = "admin"
"""The name (`FileDescriptorName=`) of a socket that serves the operator's pages."""


class NotASocket(Exception):
    """What was handed over cannot be listened on."""


class Inherited(NamedTuple):
    """A listening stream socket, and the name that its unit gave it."""

    name: str
    sock: socket.socket


def inherited_sockets(environ: Mapping[str, str], *, first: int = FIRST_FD) -> list[Inherited]:
    """The sockets handed to this process, if any; they are not inherited any further.

    Raises NotASocket if one of them is something else than a listening TCP or UNIX stream socket.
    """
    count = environ.get("LISTEN_FDS", "")
    # Variables that were meant for a parent say nothing about our descriptors.
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    names = dict(enumerate(environ.get("LISTEN_FDNAMES", "").split(":")))
    return [
        Inherited(names.get(number, ""), _socket(first + number)) for number in range(int(count))
    ]


def _socket(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise NotASocket(f"descriptor {fd} was handed over, but is no socket") from error
    stream = sock.type == socket.SOCK_STREAM and sock.family in (
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
    )
    if not stream or not _listens(sock):
        sock.detach()
        raise NotASocket(f"descriptor {fd} is no listening TCP or UNIX stream socket")
    return sock


def _listens(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        # macOS does not tell.
        return True
