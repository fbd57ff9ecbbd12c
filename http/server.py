"""The HTTP server: listening sockets, the accept loop, and a barrier around each connection.

hypercorn's own loop lets an exception of one connection cancel them all; here it ends that
connection and is reported.
"""

import errno
import socket
from typing import TYPE_CHECKING

import trio

from maxd.http.connection import Connection, Limits, hypercorn_config
from maxd.http.http1 import Incident, Report, incident

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypercorn.typing import ASGIFramework
    from quart_trio import QuartTrio

    from maxd.http.guard import Render

BACKLOG = 4096
"""Connections the kernel may queue; it cuts this to its own limit (4,096 on Linux)."""

# accept(2): errors of the connection that was waiting, not of the listening socket.
_CLIENT_GONE = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
    }
)
# Out of files or memory: the connection stays in the backlog, so the next accept fails at once.
_ACCEPT_PAUSE = 0.1


class PortTaken(Exception):
    """Another program listens there already."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} of {host} is in use by another program")
        self.host = host
        self.port = port


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of `host`; `localhost` is IPv4 and IPv6.

    Port 0 takes a free one, the same for all. Addresses that this machine does not have are left
    out as long as one remains. The sockets are not inherited by child processes. Raises
    PortTaken, or OSError if the name is unknown or the port is not allowed; then none is open.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in dict.fromkeys((info[0], info[4]) for info in found):
            if family not in (socket.AF_INET, socket.AF_INET6):
                continue
            if port == 0 and sockets:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sockets.append(_listen(family, address))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTaken(host, port) from error
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing is not None and not sockets:
            raise missing
    except BaseException:  # Also what nobody expects; the caller gets it, and no socket stays.
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restart must not wait for the connections of the last run to be forgotten.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:  # The same.
        sock.close()
        raise
    return sock


def prepare(app: "QuartTrio") -> None:
    """Switch off the limits and error pages of Quart that would answer before ours.

    It answers 413 at 16 MB and 408 at 60 s in HTML, cuts a streamed reply at 60 s, and logs
    exceptions with their texts. With this, handlers' exceptions reach the server.
    """
    app.config["MAX_CONTENT_LENGTH"] = None
    app.config["BODY_TIMEOUT"] = None
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["PROPAGATE_EXCEPTIONS"] = True


async def serve(
    app: "ASGIFramework",
    sockets: "Sequence[socket.socket]",
    *,
    render: "Render",
    report: Report,
    shutdown: trio.Event,
    draining: trio.Event | None = None,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on the listening `sockets`, which it owns and closes.

    Once `shutdown` is set it stops accepting, ends idle connections, gives replies in progress
    `graceful_seconds`, resets the rest and returns. If `draining` is given, it stops accepting when
    that is set, for another process that holds the same sockets, and ends each connection after
    the request that it has brought or is about to. Cancelling it resets all connections now.
    `render` writes the replies to requests that never reach the app and to handlers that fail;
    `report` is told what went wrong. The app's ASGI lifespan is not run.
    """
    server = _Server(app, limits or Limits(), render, report)
    listeners = [trio.socket.from_stdlib_socket(sock) for sock in sockets]
    try:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(server.accept, listener, connections)
                task_status.started()
                await (shutdown if draining is None else draining).wait()
                accepting.cancel_scope.cancel()
            for listener in listeners:
                listener.close()
            server.retire()
            await shutdown.wait()
            connections.cancel_scope.deadline = trio.current_time() + server.limits.graceful_seconds
            server.finish()
    finally:
        for listener in listeners:
            listener.close()


class _Server:
    def __init__(
        self, app: "ASGIFramework", limits: Limits, render: "Render", report: Report
    ) -> None:
        self.limits = limits
        self._app = app
        self._render = render
        self._report = report
        self._config = hypercorn_config(limits)
        self._room = trio.Semaphore(limits.connections)
        self._open: set[Connection] = set()

    async def accept(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        """Accept for ever; no error of accept ends it."""
        while True:
            await self._room.acquire()
            try:
                sock, _ = await listener.accept()
            except OSError as error:
                self._room.release()
                if error.errno not in _CLIENT_GONE:
                    name = errno.errorcode.get(error.errno or 0, "OSError")
                    self._report(Incident("accept", name))
                    await trio.sleep(_ACCEPT_PAUSE)
            else:
                nursery.start_soon(self._run, sock)

    async def _run(self, sock: trio.socket.SocketType) -> None:
        """One connection; the barrier."""
        try:
            connection = Connection(
                self._app,
                sock,
                config=self._config,
                limits=self.limits,
                render=self._render,
                report=self._report,
            )
            self._open.add(connection)
            try:
                await connection.run()
            finally:
                self._open.discard(connection)
        # Everything but a cancellation or an order to exit stays here, and is reported: the other
        # connections have nothing to do with it.
        except* Exception as group:
            self._report(incident("connection", group))
        finally:
            sock.close()
            self._room.release()

    def retire(self) -> None:
        """Let each connection bring no request but the one it is about."""
        for connection in list(self._open):
            connection.retire()

    def finish(self) -> None:
        """End each connection after its reply in progress."""
        for connection in list(self._open):
            connection.finish()
