"""hypercorn's HTTP/1.1 protocol, changed where it was measured to fall over.

`Http1` is hypercorn's H11Protocol over h11; `Handlers` starts the ASGI app for each request.
Neither touches a socket: bytes go in by `handle` and out through the injected `send`.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Literal, TypeAlias, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.events import Event as ConnectionEvent
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    ConnectionState,
    H11SendableEvent,
    HTTPResponseStartEvent,
    HTTPScope,
    Scope,
)
from msgspec import Struct

from maxd.daemon.logs import place_of
from maxd.http.guard import Render, reply_headers, send_reply
from maxd.workers.faults import BadRequest, Fault, first_leaf, internal_error

Address: TypeAlias = tuple[str, int]

PROCESSING: Final = "maxd.processing"
"""An extension of the ASGI scope: `tell` in it sends `102 Processing`, unless the reply has begun.
It is the handler's to know whether the client takes it."""


class Incident(Struct, frozen=True):
    """Something that went wrong, as a fact: in which part, the names of the exception types, and
    the line of ours that raised it where there is one.

    It never holds a message or a traceback; those can quote a prompt.
    """

    place: Literal["accept", "connection", "handler"]
    error: str
    at: str = ""


Report: TypeAlias = Callable[[Incident], None]
"""Counts or logs an incident. Must not raise."""


def incident(
    place: Literal["connection", "handler"], group: BaseExceptionGroup[Exception]
) -> Incident:
    """The incident that exceptions make."""
    return Incident(place, "+".join(sorted(_types(group))), place_of(first_leaf(group)))


def _types(error: BaseException) -> set[str]:
    if isinstance(error, BaseExceptionGroup):
        return {name for inner in error.exceptions for name in _types(inner)}
    return {type(error).__name__}


class Handlers:
    """Runs the app for the requests of one connection (hypercorn's TaskGroup, but contained).

    hypercorn's own logs an exception with its text and answers without a body, and leaves
    whoever hands over a body waiting for ever when the app ended without reading it.
    """

    def __init__(self, nursery: trio.Nursery, render: Render, report: Report) -> None:
        self._nursery = nursery
        self._render = render
        self._report = report
        self._scope = trio.CancelScope()
        self.tell_processing: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """What handlers find as `PROCESSING`; set by the protocol that they reply through."""

    def cancel(self) -> None:
        """Cancel the handler of the request in progress."""
        self._scope.cancel()

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the app for one request; what is returned hands it more of the body."""
        give, take = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)
        self._scope = trio.CancelScope()
        # With a protocol of HTTP/1 the scope is always one of HTTP.
        cast("HTTPScope", scope)["extensions"][PROCESSING] = {"tell": self.tell_processing}
        # `Http1` is given a plain ASGI app; the wrapper hypercorn speaks of is for WSGI.
        plain = cast("ASGIFramework", app)
        self._nursery.start_soon(self._answer, plain, scope, take, send, self._scope)

        async def put(event: ASGIReceiveEvent) -> None:
            # Broken: the handler has ended without reading all of the body.
            with suppress(trio.BrokenResourceError):
                await give.send(event)

        return put

    async def _answer(
        self,
        app: ASGIFramework,
        scope: Scope,
        take: trio.MemoryReceiveChannel[ASGIReceiveEvent],
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
        cancel_scope: trio.CancelScope,
    ) -> None:
        # The start is passed on with the first of the body, as ASGI demands. So a handler that
        # fails in between is still answered with an error, and both go out in one segment.
        start: HTTPResponseStartEvent | None = None
        started = False

        async def hold_start(event: ASGISendEvent) -> None:
            nonlocal start, started
            if event["type"] == "http.response.start" and start is None and not started:
                start = event
                return
            if start is not None:
                started = True
                held, start = start, None
                await send(held)
            await send(event)

        fault = internal_error()
        with cancel_scope, take:
            try:
                await app(scope, cast("ASGIReceiveCallable", take.receive), hold_start)
            except* Fault as group:
                fault = first_leaf(group)
                if started:
                    self._report(incident("handler", group))
            # The barrier: whatever a handler raises ends its own request and nothing else. It is
            # reported, and the client is told of an internal error.
            except* Exception as group:
                self._report(incident("handler", group))
            if not started:
                await send_reply(cast("ASGISendCallable", send), self._render(fault))
            # Ends a reply that was begun and not finished: the connection is closed.
            await send(None)


class Http1(H11Protocol):
    """hypercorn's HTTP/1.1 server protocol without upgrades, and with an end to everything.

    Overridden, and why:
    - `_handle_events`: hypercorn switches to HTTP/2 and WebSocket, where one malformed request
      ended the process; and it stops reading at a pipelined byte, so that a client which has
      sent one and then goes away was not noticed.
    - `handle`: bytes behind the request being answered are kept up to `ahead_bytes` for the
      next one (a fast client may send it before the handler has returned), beyond that dropped.
    - `_close_stream`: hypercorn tells the app that its client has disconnected after each reply.
      quart-trio then cancels the task that is about to recycle the connection, so idle
      connections were never closed. A client that is gone cancels the handler's task instead.
    - `_maybe_recycle`: also closes when asked to, and has no checkpoint that could be cancelled.
    - `stream_send`, `_send_h11_event`: say `connection: close` where it is true; one send for
      the header and the first of the body.
    """

    task_group: Handlers  # type: ignore[assignment]
    connection: h11.Connection

    def __init__(
        self,
        app: ASGIFramework,
        config: Config,
        handlers: Handlers,
        render: Render,
        client: Address | None,
        server: Address | None,
        send: Callable[[ConnectionEvent], Awaitable[None]],
        *,
        ahead_bytes: int,
    ) -> None:
        super().__init__(
            cast("AppWrapper", app),
            config,
            WorkerContext(None),
            handlers,  # type: ignore[arg-type]
            ConnectionState({}),
            False,
            client,
            server,
            send,
        )
        handlers.tell_processing = self.tell_processing
        self._render = render
        self._ahead_bytes = ahead_bytes
        self._method = b""
        self._head = b""
        self._replying = False
        self._ended = False
        self.closing = False
        """The connection ends with the reply in progress."""
        self.surplus = 0
        """Bytes received behind the request in progress, or after the end."""

    @property
    def busy(self) -> bool:
        """A request is being answered."""
        return self.stream is not None

    @property
    def ahead(self) -> bool:
        """Bytes of the next request are here already."""
        return not self._ended and bool(self.connection.trailing_data[0])

    async def handle(self, event: ConnectionEvent) -> None:
        """Take bytes from the client; `b""` is the end of them. May block on the handler."""
        assert isinstance(event, RawData)
        in_body = self.connection.their_state is h11.SEND_BODY
        if self._ended or (self.busy and (self._replying or not in_body)):
            self.surplus += len(event.data)
            if self._ended or in_body or self.surplus > self._ahead_bytes:
                self.closing = True
            elif not self.closing:
                self.connection.receive_data(event.data)
            return
        self.connection.receive_data(event.data)
        await self._handle_events()

    async def resume(self) -> None:
        """Go on with the bytes of a next request that came during the last reply."""
        await self._handle_events()

    async def _handle_events(self) -> None:
        while not self._ended:
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self._refuse(_malformed(error.error_status_hint))
                return
            if isinstance(event, h11.Request):
                self._method = event.method
                fault = _unsupported(event)
                if fault is not None:
                    await self._refuse(fault)
                    return
                await self.send(Updated(idle=False))
                await self._create_stream(event)
                if self.connection.they_are_waiting_for_100_continue:
                    await self._send_h11_event(
                        h11.InformationalResponse(status_code=100, headers=[])
                    )
            elif isinstance(event, h11.Data) and self.stream is not None:
                await self.stream.handle(Body(stream_id=STREAM_ID, data=bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage) and self.stream is not None:
                await self.stream.handle(EndBody(stream_id=STREAM_ID))
                return
            else:
                return

    async def _refuse(self, fault: Fault) -> None:
        self.closing = True
        if self._replying:
            return  # The reply has begun without the rest of this body; it may be finished.
        self.task_group.cancel()
        self._ended = True
        await self._close_stream()
        reply = self._render(fault)
        close = [(b"connection", b"close"), *self.config.response_headers("h11")]
        events: list[H11SendableEvent] = [
            h11.Response(status_code=reply[0], headers=[*reply_headers(reply), *close]),
            h11.EndOfMessage(),
        ]
        if self._method != b"HEAD":
            events.insert(1, h11.Data(data=reply[2]))
        data = b"".join(self.connection.send(event) or b"" for event in events)
        await self.send(RawData(data=data))
        await self.send(Closed())

    async def tell_processing(self) -> None:
        """Send `102 Processing`, unless the reply has begun."""
        if self._replying or self._ended:
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        await self._send_h11_event(h11.InformationalResponse(status_code=102, headers=[]))

    async def stream_send(self, event: StreamEvent) -> None:
        if self._ended:
            # A handler that was about to reply when its request was refused.
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        if isinstance(event, Response):
            self._replying = True
            if self.closing or self.connection.their_state in {h11.SEND_BODY, h11.ERROR}:
                event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        data = self._head + (self.connection.send(event) or b"")
        self._head = b""
        if isinstance(event, h11.Response):
            self._head = data
        elif data:
            await self.send(RawData(data=data))

    async def _close_stream(self) -> None:
        if self.stream is not None:
            self.stream.closed = True
            self.stream = None

    async def _maybe_recycle(self) -> None:
        await self._close_stream()
        self._replying = False
        done = self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE
        if self.closing or not done:
            self._ended = True
            await self.send(Closed())
            return
        self.connection.start_next_cycle()
        self._method = b""
        self.surplus = 0
        await self.send(Updated(idle=True))


def _unsupported(request: h11.Request) -> Fault | None:
    names = {name for name, _ in request.headers}
    if request.http_version not in {b"1.0", b"1.1"}:
        return BadRequest("This server speaks HTTP/1.1 only.", status=505)
    if b"transfer-encoding" in names and (
        b"content-length" in names or request.http_version == b"1.0"
    ):
        # Two lengths for one body: what a proxy and this server see could differ.
        return BadRequest("The length of the body is ambiguous.")
    upgrades = [value.strip().lower() for name, value in request.headers if name == b"upgrade"]
    if b"websocket" in upgrades:
        return BadRequest("This server has no WebSockets; send a plain request.")
    return None


def _malformed(status: int) -> Fault:
    if status == 431:
        return BadRequest("The header of the request is too large.", status=status)
    if status == 501:
        return BadRequest("This transfer coding is not supported.", status=status)
    return BadRequest("The request is not valid HTTP/1.1.", status=status)
