"""A tiny QuartTrio app behind the real server, and raw clients for it."""

import gc
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio
from quart import Response, request
from quart_trio import QuartTrio

from maxd.http.body import Budget, read_body
from maxd.http.connection import Limits
from maxd.http.guard import Guarded, Policy, Render, Reply
from maxd.http.http1 import PROCESSING
from maxd.http.server import open_sockets, prepare, serve
from maxd.workers.faults import Fault, TooLarge

if TYPE_CHECKING:
    from maxd.http.http1 import Incident

CANARY = "canary-4711"
EVENT = b"data: " + b"x" * 1000 + b"\n\n"


def render(fault: Fault) -> Reply:
    """A fault as JSON; the real envelope is tested elsewhere."""
    body = json.dumps({"error": {"message": fault.message, "code": fault.code}}).encode()
    return fault.status, [(b"content-type", b"application/json")], body


class Calls:
    """What the handlers of the tiny app have lived through."""

    def __init__(self) -> None:
        self.started = trio.Event()
        self.cancelled = trio.Event()
        self.go = trio.Event()

    @contextmanager
    def watch(self) -> Iterator[None]:
        self.started.set()
        try:
            yield
        except BaseException as error:
            if isinstance(error, (trio.Cancelled, GeneratorExit)):
                self.cancelled.set()
            raise


def tiny_app(calls: Calls, body_deadline: float) -> QuartTrio:
    app = QuartTrio("tiny")
    prepare(app)
    budget = Budget(4_000_000)

    @app.get("/hi")
    async def hi() -> Response:
        return Response(b'{"ok":true}', content_type="application/json")

    @app.post("/echo")
    async def echo() -> Response:
        body = await read_body(request, limit=1_000_000, budget=budget, deadline=body_deadline)
        return Response(str(len(body)).encode())

    @app.post("/refuse")
    async def refuse() -> Response:
        raise TooLarge("no")

    @app.get("/stall")
    async def stall() -> Response:
        with calls.watch():
            await calls.go.wait()
        return Response(b"went")

    @app.get("/stream")
    async def stream() -> Response:
        async def events() -> AsyncIterator[bytes]:
            with calls.watch():
                yield b"first\n"
                await calls.go.wait()
                yield b"last\n"

        return Response(events(), content_type="text/event-stream")

    @app.get("/flood")
    async def flood() -> Response:
        async def events() -> AsyncIterator[bytes]:
            with calls.watch():
                while True:
                    yield EVENT

        return Response(events(), content_type="text/event-stream")

    @app.get("/processing")
    async def processing() -> Response:
        tell = request.scope["extensions"][PROCESSING]["tell"]
        for _ in range(3):
            await tell()

        async def body() -> AsyncIterator[bytes]:
            yield b"begun"
            await tell()
            yield b" and ended"

        return Response(body())

    @app.get("/fail")
    async def fail() -> Response:
        raise ValueError(CANARY)

    @app.get("/fail-in-group")
    async def fail_in_group() -> Response:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)
        raise AssertionError

    @app.get("/fail-at-first-byte")
    async def fail_at_first_byte() -> Response:
        async def events() -> AsyncIterator[bytes]:
            raise ValueError(CANARY)
            yield b""

        return Response(events())

    @app.get("/fail-later")
    async def fail_later() -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield b"begun"
            raise ValueError(CANARY)

        return Response(events())

    return app


class Client:
    """One raw connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def get(self, path: str, *headers: str) -> None:
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def post(self, path: str, body: bytes, length: int | None = None) -> None:
        await self.send(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode()
        )
        await self.send(body)

    async def head(self) -> str:
        """The next status line and headers, in lower case."""
        while b"\r\n\r\n" not in self._buffer:
            data = await self.stream.receive_some()
            assert data, f"closed after {self._buffer!r}"
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head.decode().lower()

    async def reply(self) -> tuple[int, str, bytes]:
        """The next whole reply with a content-length: status, headers, body."""
        head = await self.head()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        while len(self._buffer) < length:
            data = await self.stream.receive_some()
            assert data, f"closed after {self._buffer!r}"
            self._buffer += data
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return int(head.split()[1]), head, body

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, be it clean or a reset."""
        try:
            async for data in self.stream:
                self._buffer += data
        except trio.BrokenResourceError:
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def reset(self) -> None:
        """Go away without a goodbye."""
        linger = struct.pack("ii", 1, 0)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.stream.socket.close()


class Site:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.calls = Calls()
        self.incidents: list[Incident] = []
        self.shutdown = trio.Event()
        self.stopped = trio.Event()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield Client(stream)

    async def exchange(self, data: bytes) -> bytes:
        """Everything that the server says to `data` until it closes."""
        async with self.client() as client:
            await client.send(data)
            return await client.rest()

    async def answers(self) -> None:
        """It still serves a new client."""
        async with self.client() as client:
            await client.get("/hi", "Connection: close")
            assert (await client.reply())[0] == 200


def _open_files() -> int:
    return len(os.listdir("/dev/fd"))


@asynccontextmanager
async def running(
    limits: Limits | None = None, *, body_deadline: float = 30.0, write: Render = render
) -> AsyncIterator[Site]:
    """A server for the body of the block; at its end no task and no file may be left."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    files = _open_files()
    with trio.fail_after(60):
        sockets = open_sockets("127.0.0.1", 0)
        site = Site(sockets[0].getsockname()[1])
        app = Guarded(tiny_app(site.calls, body_deadline), Policy())

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await serve(
                app,
                sockets,
                render=write,
                report=site.incidents.append,
                shutdown=site.shutdown,
                limits=limits or Limits(graceful_seconds=0.2),
                task_status=task_status,
            )
            site.stopped.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield site
            site.shutdown.set()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    gc.collect()
    assert _open_files() == files
