"""The client of every HTTP server in the bench, on raw sockets.

The request is made before the clock is started and what is read is parsed after it was looked at,
so the figures hold nothing of the client but its system calls.
"""

import json
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import h11

HOST = "127.0.0.1"
# A reply takes one or two seconds; a machine under load may need ten times that.
PATIENCE = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back. Times in seconds from before the connect, or before the first write.

    `first` is the time of the first text, `total` that of the end. `problem` is why it is no
    good answer, as far as the client can tell.
    """

    text: str
    first: float
    total: float
    problem: str | None = None


def ask(port: int, model: str, prompt: str, *, stream: bool, request_id: str) -> Answer:
    """Ask the server on `port` one question, as a new conversation on a new connection."""
    question = {"role": "user", "content": prompt}
    return ask_messages(port, model, [question], stream=stream, request_id=request_id)


def ask_messages(
    port: int, model: str, messages: list[dict[str, Any]], *, stream: bool, request_id: str
) -> Answer:
    """Send the server on `port` a conversation, on a new connection."""
    with Line(port) as line:
        return line.ask(model, messages, stream=stream, request_id=request_id)


class Line:
    """One connection to the server on `port`, made with the first request on it. The server has to
    keep it open between two requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = h11.Connection(h11.CLIENT)
        self._sock: socket.socket | None = None

    def __enter__(self) -> "Line":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sock is not None:
            self._sock.close()

    def ask(
        self, model: str, messages: list[dict[str, Any]], *, stream: bool, request_id: str
    ) -> Answer:
        """Send a conversation, and read the answer to its end."""
        request = self._request(model, messages, stream, request_id)
        reader = _StreamReader() if stream else _WholeReader()
        first: float | None = None
        problem: str | None = None
        now = started = time.perf_counter()
        try:
            sock = self._open()
            sock.sendall(request)
            over = False
            while not over:
                data = sock.recv(65536)
                now = time.perf_counter()
                self._connection.receive_data(data)
                over, problem = _take(self._connection, reader)
                if first is None and reader.text:
                    first = now - started
        except (OSError, ValueError, h11.RemoteProtocolError) as error:
            problem = f"{type(error).__name__}: {error}"
        if problem is None and not reader.complete:
            problem = "the answer is not complete"
        total = now - started
        return Answer(reader.text, total if first is None else first, total, problem)

    def _request(
        self, model: str, messages: list[dict[str, Any]], stream: bool, request_id: str
    ) -> bytes:
        connection = self._connection
        if connection.our_state is h11.DONE is connection.their_state:
            connection.start_next_cycle()
        body = json.dumps({"model": model, "stream": stream, "messages": messages}).encode()
        head = h11.Request(
            method="POST",
            target="/v1/chat/completions",
            headers=[
                ("host", f"{HOST}:{self._port}"),
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("x-request-id", request_id),
            ],
        )
        request = b"".join(connection.send(event) or b"" for event in (head, h11.Data(body)))
        connection.send(h11.EndOfMessage())
        return request

    def _open(self) -> socket.socket:
        if self._sock is None:
            self._sock = socket.create_connection((HOST, self._port), PATIENCE)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._sock


class _StreamReader:
    """Server-sent events of a chat completion."""

    def __init__(self) -> None:
        self.text = ""
        self.complete = False
        self._pending = b""

    def feed(self, data: bytes) -> None:
        *events, self._pending = (self._pending + data).split(b"\n\n")
        for event in events:
            # The proxy begins with a comment.
            if not event.startswith(b"data: "):
                continue
            data = event.removeprefix(b"data: ")
            if data == b"[DONE]":
                self.complete = True
                continue
            for choice in json.loads(data).get("choices", ()):
                self.text += choice["delta"].get("content") or ""


class _WholeReader:
    """A chat completion in one piece."""

    def __init__(self) -> None:
        self._body = b""

    @property
    def complete(self) -> bool:
        return bool(self.text)

    @property
    def text(self) -> str:
        try:
            return str(json.loads(self._body)["choices"][0]["message"]["content"])
        except (ValueError, LookupError, TypeError):
            return ""

    def feed(self, data: bytes) -> None:
        self._body += data


def _take(
    connection: h11.Connection, reader: _StreamReader | _WholeReader
) -> tuple[bool, str | None]:
    """Read on in what has arrived: whether the reply is over, and what is wrong with it."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            return False, None
        if isinstance(event, h11.Response) and event.status_code != 200:
            return True, f"status {event.status_code}"
        if isinstance(event, h11.Data):
            reader.feed(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return True, None
