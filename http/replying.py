"""How a turn's events go out: as server-sent events, or as one object."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import trio
from msgspec import Struct
from quart import Response

from maxd.daemon.turn_stream import TurnStream
from maxd.http.dialect import Collector, StreamEncoder
from maxd.http.http1 import PROCESSING
from maxd.http.json_response import json_response
from maxd.http.patience import patience_of
from maxd.workers.faults import Fault, WorkerDied

if TYPE_CHECKING:
    from maxd.workers.turn import Event


Settle: TypeAlias = Callable[[], Awaitable[None]]


class Settings(Struct, frozen=True, kw_only=True):
    """How requests are read and replies sent. Times in seconds."""

    max_body_bytes: int
    heartbeat_seconds: float
    hold_status_seconds: float
    strict_fields: bool = False


async def _nothing() -> None:
    """Nothing can be told."""


class Waiting(Struct, frozen=True):
    """The client of a reply that is not streamed: it waits so many `seconds` for a status, and
    `tell` lets it know, where that can be done, that its request is being worked on."""

    seconds: float = math.inf
    tell: Callable[[], Awaitable[None]] = _nothing


def waiting_client(scope: Mapping[str, Any]) -> Waiting:
    """The client of the request of an ASGI scope."""
    patience = patience_of(scope["headers"], scope["http_version"])
    told = scope.get("extensions", {}).get(PROCESSING) if patience.told else None
    return Waiting(patience.seconds, _nothing if told is None else told["tell"])


async def streamed(
    stream: TurnStream, encoder: StreamEncoder, settings: Settings, settle: Settle | None = None
) -> Response:
    """The reply as server-sent events. Its status waits for the first event, so that a failure
    to start is told as one; not for ever, because clients' timers run."""
    first: list[Event] = []
    with trio.move_on_after(settings.hold_status_seconds):
        first = await stream.next_events()

    async def body() -> AsyncIterator[bytes]:
        events = first
        try:
            while True:
                if data := encoder.encode(events):
                    if settle is not None and stream.finished:
                        await settle()
                    yield data
                if stream.finished:
                    return
                with trio.move_on_after(settings.heartbeat_seconds) as patience:
                    events = await stream.next_events()
                if patience.cancelled_caught:
                    events = []
                    yield encoder.heartbeat()
        except Fault as fault:
            yield encoder.error(fault)

    response = Response(body(), content_type="text/event-stream; charset=utf-8")
    response.headers["cache-control"] = "no-cache"
    # nginx buffers event streams unless told not to.
    response.headers["x-accel-buffering"] = "no"
    response.timeout = None
    return response


async def whole(
    stream: TurnStream,
    collector: Collector,
    settings: Settings,
    waiting: Waiting,
    settle: Settle | None = None,
) -> Response:
    """The reply as one object. Its status waits for the end of the turn, so that a failure has one
    of its own, for as long as the client waits; then it is begun with white space, which JSON
    allows."""
    answer = await _held(stream, collector, settings.heartbeat_seconds, waiting)
    if answer is not None:
        if settle is not None:
            await settle()
        return json_response(answer)

    async def body() -> AsyncIterator[bytes]:
        answer: bytes | None = None
        while answer is None:
            yield b" "
            with trio.move_on_after(settings.heartbeat_seconds):
                # A fault ends the connection in the middle of the body: the client must not
                # take an error under a 200 for an answer.
                answer = await _collect(stream, collector)
        # Outside of the time limit: it is neither the writing's nor the reader's.
        if settle is not None:
            await settle()
        yield answer

    response = Response(body(), content_type="application/json")
    response.timeout = None
    return response


async def _held(
    stream: TurnStream, collector: Collector, heartbeat_seconds: float, waiting: Waiting
) -> bytes | None:
    """The answer; None if the client does not wait for it without a status."""
    until = trio.current_time() + waiting.seconds
    while True:
        # Not around the telling: a send that is cancelled ends its connection.
        with trio.move_on_at(min(until, trio.current_time() + heartbeat_seconds)):
            return await _collect(stream, collector)
        if trio.current_time() >= until:
            return None
        await waiting.tell()


async def _collect(stream: TurnStream, collector: Collector) -> bytes:
    while True:
        events = await stream.next_events()
        if (whole := collector.feed(events)) is not None:
            return whole
        if not events:
            raise WorkerDied("the turn ended without an answer")
