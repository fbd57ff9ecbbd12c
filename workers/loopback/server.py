"""The loopback model's HTTP server. It listens on 127.0.0.1 and nowhere else."""

import secrets
import time
from collections import deque
from contextlib import suppress
from typing import Any

import h11
import msgspec
import trio

from maxd.workers.loopback.connection import Connection, Gone
from maxd.workers.loopback.errors import error_body
from maxd.workers.loopback.reply import Error
from maxd.workers.loopback.script import BadDirective, Request, Script, play, reply_to
from maxd.workers.loopback.usage import input_tokens
from maxd.workers.loopback.wire import answer

HOST = "127.0.0.1"
MAX_BODY = 64 * 2**20
SECRETS = {b"authorization", b"x-api-key", b"cookie", b"proxy-authorization"}


class Refusal(Exception):
    """A request that is answered with an error; `closes` if its body was not read."""

    def __init__(self, status: int, message: str, *, closes: bool = False) -> None:
        super().__init__(message)
        self.error = Error(status, message=message)
        self.closes = closes


class LoopbackModel:
    """A running loopback model: where it is, and what it was asked.

    `requests` holds the newest requests to `/v1/messages`, oldest first; `count` and `ended` are
    how many have arrived since the start, and how many of them are over (answered, or the client
    has gone). `failures` holds the exceptions that a barrier stopped: those of a script, or a
    bug of this package.
    """

    def __init__(self, port: int, script: Script | None = None, keep: int = 1000) -> None:
        self.port = port
        self.base_url = f"http://{HOST}:{port}"
        self.requests: deque[Request] = deque(maxlen=keep)
        self.count = 0
        self.ended = 0
        self.failures: deque[Exception] = deque(maxlen=100)
        self._script = play(script)
        self._changed = trio.lowlevel.ParkingLot()
        self._hosts = {f"{HOST}:{port}".encode(), f"localhost:{port}".encode()}
        # Ids must differ from those of an earlier server: conversations outlive it.
        self._instance = secrets.token_hex(6)
        self._answers = 0

    def __repr__(self) -> str:
        return f"<LoopbackModel {self.base_url} {self.count} requests, {self.ended} ended>"

    async def wait_requests(self, n: int) -> None:
        """Wait until `n` requests have arrived since the start."""
        while self.count < n:
            await self._changed.park()

    async def wait_ended(self, n: int) -> None:
        """Wait until `n` of the requests are over."""
        while self.ended < n:
            await self._changed.park()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection until it ends. Raises nothing but Cancelled."""
        connection = Connection(stream)
        try:
            while await self._serve_request(connection):
                pass
        except Gone:
            pass
        except h11.RemoteProtocolError as error:
            with suppress(Gone, h11.LocalProtocolError):
                data = error_body(Error(400, message=str(error)), self._next_id())
                await connection.send_json(400, data, closes=True)
        except Exception as error:
            # The barrier: whatever one connection brings about, the others go on. The owner of the
            # model finds it in `failures`.
            self.failures.append(error)
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_request(self, connection: Connection) -> bool:
        """Answer one request. False if the connection ends with it."""
        head = await connection.receive_head()
        if head is None:
            return False
        path = head.target.decode("ascii", "replace")
        route = head.method, head.target.partition(b"?")[0]
        try:
            # A web page whose own name was made to resolve to this address must not read here.
            if dict(head.headers).get(b"host") not in self._hosts:
                raise Refusal(403, "The Host header is not this server's.", closes=True)
            body = await receive_body(connection, head)
            if route == (b"POST", b"/v1/messages"):
                request = Request(path=path, headers=shown(head), body=decode(body))
                await self._serve_messages(connection, request, len(body))
            elif route == (b"POST", b"/v1/messages/count_tokens"):
                count = {"input_tokens": input_tokens(decode(body), len(body))}
                await connection.send_json(200, msgspec.json.encode(count))
            elif route == (b"HEAD", b"/"):
                await connection.send_json(200, b"")
            elif route == (b"GET", b"/loopback/requests"):
                await connection.send_json(200, msgspec.json.encode(list(self.requests)))
            elif route == (b"DELETE", b"/loopback/requests"):
                self.requests.clear()
                await connection.send_json(200, b"{}")
            else:
                raise Refusal(404, f"Not found: {path}")
        except Refusal as refusal:
            data = b"" if head.method == b"HEAD" else error_body(refusal.error, self._next_id())
            await connection.send_json(refusal.error.status, data, closes=refusal.closes)
        return connection.start_next()

    async def _serve_messages(self, connection: Connection, request: Request, size: int) -> None:
        self.requests.append(request)
        self.count += 1
        self._changed.unpark_all()
        try:
            try:
                reply = reply_to(request, self._script)
            except BadDirective as error:
                raise Refusal(400, f"loopback directive: {error}") from None
            except Exception as error:
                # A test's script has failed: the test finds it here, the client gets an answer.
                self.failures.append(error)
                raise Refusal(500, f"the script raised {type(error).__name__}") from None
            await connection.send(answer(reply, request.body, size, self._next_id(), time.time()))
        except Gone:
            request.gone = True
            raise
        finally:
            request.ended = time.monotonic()
            self.ended += 1
            self._changed.unpark_all()

    def _next_id(self) -> str:
        self._answers += 1
        return f"{self._instance}{self._answers:06}"


async def receive_body(connection: Connection, head: h11.Request) -> bytes:
    """The body of the request `head`. Raises Refusal if it is too large."""
    # Declared or found out: h11 has checked that a declared length is a number.
    size = int(dict(head.headers).get(b"content-length", b"0"))
    pieces: list[bytes] = []
    received = 0
    while size <= MAX_BODY and received <= MAX_BODY:
        piece = await connection.receive_piece()
        if piece is None:
            return b"".join(pieces)
        pieces.append(piece)
        received += len(piece)
    raise Refusal(413, f"The body exceeds {MAX_BODY} bytes.", closes=True)


def decode(raw: bytes) -> dict[str, Any]:
    """The body of a request as plain data. Raises Refusal unless it has messages."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(400, f"The body is not JSON: {error}") from None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise Refusal(400, "messages: Field required")
    return body


def shown(head: h11.Request) -> dict[str, str]:
    """The headers of a request as they may be kept: of a credential only that it was there."""
    return {
        name.decode("ascii"): "(hidden)" if name in SECRETS else value.decode("latin-1")
        for name, value in head.headers
    }


async def serve_loopback_model(
    *,
    port: int = 0,
    script: Script | None = None,
    keep: int = 1000,
    task_status: trio.TaskStatus[LoopbackModel] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a loopback model until cancelled; start it with `nursery.start`, which returns it.

    `port` 0 takes a free one; raises OSError if `port` is taken. `script` comes before directives
    and echo. `keep` is how many requests are remembered; those of an agent have 100 kB each.
    Cancellation closes all connections, whatever they are at.
    """
    listeners = await trio.open_tcp_listeners(port, host=HOST)
    model = LoopbackModel(listeners[0].socket.getsockname()[1], script, keep)
    task_status.started(model)
    await trio.serve_listeners(model.serve, listeners)
