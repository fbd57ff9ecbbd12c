"""One client's connection: its socket, its deadlines and its end.

It takes the place of hypercorn's TCPServer and ProtocolWrapper. Of these nothing could stay:
their sends are shielded without a deadline (a client that does not read kept SIGTERM waiting for
ever), their idle timer was lost, and they switch to HTTP/2.
"""

import math
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from msgspec import Struct

from maxd.http.http1 import Address, Handlers, Http1, Incident, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercorn.typing import ASGIFramework

    from maxd.http.guard import Render

# One read takes at most this; hypercorn's own figure.
_READ_BYTES = 64 * 1024


class Limits(Struct, frozen=True, kw_only=True):
    """What one connection, and all of them, may take. Times are in seconds."""

    connections: int = 2000
    """Open at once; further ones wait in the backlog."""
    header_bytes: int = 32 * 1024
    header_seconds: float = 5.0
    """From the first byte of a header, or from the accept, to its end."""
    idle_seconds: float = 75.0
    """Between two requests."""
    send_seconds: float = 30.0
    """For the client to take what one send holds; then the connection is reset."""
    graceful_seconds: float = 10.0
    """For the replies in progress, once the server stops."""
    linger_seconds: float = 2.0
    """For the client to read the last reply and close, so that no reset overtakes it."""
    ahead_bytes: int = 64 * 1024
    """Of a next request, kept while a reply is in progress."""
    surplus_bytes: int = 8 * 1024 * 1024
    """Dropped unread behind a request before the connection is reset."""


def hypercorn_config(limits: Limits) -> Config:
    """hypercorn's settings, with its logs off: they hold request lines and exception texts."""
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.header_bytes
    return config


class Connection:
    """Serves the requests of one accepted socket until either side ends it.

    A client that goes away, in whatever way, cancels the handler of its request at once.
    """

    def __init__(
        self,
        app: "ASGIFramework",
        sock: trio.socket.SocketType,
        *,
        config: Config,
        limits: Limits,
        render: "Render",
        report: Report,
    ) -> None:
        self._app = app
        self._config = config
        self._limits = limits
        self._render = render
        self._report = report
        self._stream = trio.SocketStream(sock)  # sets TCP_NODELAY
        self._sending = trio.Lock()
        self._scope = trio.CancelScope()
        self._protocol: Http1 | None = None
        # The scope of the read in progress, and the time at which it ends the connection. A
        # cancelled read before that time only means: look whether there is something to do.
        self._read = trio.CancelScope()
        self._patience = math.inf
        # The patience is that for a header; its first byte has come or must come.
        self._in_header = False
        self._retired = False
        # What was sent is incomplete: say so by a reset instead of a clean end.
        self._broken = False

    async def run(self) -> None:
        """Serve until the end, then close the socket. Cancelling it resets the connection.

        Raises whatever has gone wrong; the caller contains it.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._protocol = Http1(
                        self._app,
                        self._config,
                        Handlers(nursery, self._render, self._report),
                        self._render,
                        _address(self._stream.socket.getpeername),
                        _address(self._stream.socket.getsockname),
                        self._on_event,
                        ahead_bytes=self._limits.ahead_bytes,
                    )
                    self._protocol.closing = self._retired
                    await self._serve(self._protocol)
                    nursery.cancel_scope.cancel()
        except BaseException:  # A cancellation too: the reply is not whole. It goes on.
            self._broken = True
            raise
        finally:
            self._close()

    def retire(self) -> None:
        """End after the reply in progress; or after that to the request which has begun to come or
        which a new connection has yet to bring; or now."""
        if self._protocol is None or self._protocol.busy or self._in_header:
            self._retired = True
            if self._protocol is not None:
                self._protocol.closing = True
        else:
            self._scope.cancel()

    def finish(self) -> None:
        """End after the reply in progress, or now if there is none."""
        if self._protocol is not None and self._protocol.busy:
            self._protocol.closing = True
        else:
            self._scope.cancel()

    async def _serve(self, protocol: Http1) -> None:
        self._expect_header()
        while protocol.surplus <= self._limits.surplus_bytes:
            if not self._in_header and not protocol.busy and protocol.ahead:
                self._expect_header()
                await protocol.resume()
                continue
            with trio.CancelScope(deadline=self._patience) as self._read:
                try:
                    data = await self._stream.receive_some(_READ_BYTES)
                except trio.BrokenResourceError:
                    return
            if self._read.cancelled_caught:
                if trio.current_time() < self._patience:
                    continue
                if self._in_header and protocol.ahead:
                    self._report(Incident("connection", "SlowHeader"))
                return
            if not protocol.busy and not self._in_header and not protocol.closing:
                self._expect_header()
            if data or protocol.busy:
                await protocol.handle(RawData(data=bytes(data)))
            if not data:
                return
        self._broken = True

    def _expect_header(self) -> None:
        self._in_header = True
        self._be_patient(self._limits.header_seconds)

    def _be_patient(self, seconds: float) -> None:
        self._patience = trio.current_time() + seconds
        self._read.deadline = self._patience

    async def _on_event(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated):
            self._in_header = False
            self._be_patient(self._limits.idle_seconds if event.idle else math.inf)
            if event.idle and self._protocol is not None and self._protocol.ahead:
                self._read.cancel()
        elif isinstance(event, Closed):
            self._half_close()

    async def _send(self, data: bytes) -> None:
        """Send all of `data`, or drop the connection, which cancels the caller."""
        if self._broken:
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        with trio.move_on_after(self._limits.send_seconds) as time_to_read:
            try:
                # Only a `100 Continue` can meet a reply; Lock.acquire costs a round of the loop.
                try:
                    self._sending.acquire_nowait()
                except trio.WouldBlock:
                    await self._sending.acquire()
                try:
                    await self._stream.send_all(data)
                finally:
                    self._sending.release()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._drop()
            except BaseException:
                # Cancelled in the middle of a send, or what nobody expects: nothing sensible can
                # follow it. It goes on to the caller.
                if time_to_read.cancel_called:
                    self._report(Incident("connection", "SlowReader"))
                self._drop()
                raise
        if self._broken:
            await trio.lowlevel.checkpoint_if_cancelled()

    def _drop(self) -> None:
        self._broken = True
        self._scope.cancel()

    def _half_close(self) -> None:
        # Closing with unread bytes would send a reset, which can overtake the reply: say that
        # nothing more comes and let the client close, within bounds.
        with suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_WR)
        self._in_header = False
        self._be_patient(self._limits.linger_seconds)

    def _close(self) -> None:
        if self._broken:
            # Without it the kernel keeps what a stalled client has not read, for minutes.
            with suppress(OSError):
                self._stream.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        self._stream.socket.close()


def _address(ask: "Callable[[], object]") -> Address | None:
    try:
        name = ask()
    except OSError:
        return None  # The client has gone; the first read will tell.
    # A UNIX socket has a path for a name, an IPv6 one four fields.
    return (name[0], name[1]) if isinstance(name, tuple) else None
