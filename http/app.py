"""The routes: from a request to a turn, and from its events to a reply."""

import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec
import trio
from msgspec import Struct
from quart import Request, Response, request
from quart_trio import QuartTrio

from maxd.daemon.turns import Turns, TurnStream
from maxd.http import openai_chat, openai_models
from maxd.http.body import Budget, read_body
from maxd.http.conversations import encode_deleted, encode_list, encode_one
from maxd.http.openai_reply import Collector, StreamEncoder
from maxd.http.server import prepare
from maxd.workers.faults import BadRequest, ConversationGone, Fault, WorkerDied
from maxd.workers.models import OfferedModel

if TYPE_CHECKING:
    from contextlib import ExitStack

    from maxd.workers.turn import Event

NO_CONVERSATION = "there is no such conversation under this API key"
# Bodies that are being read at the same time, over all requests.
BODIES_IN_FLIGHT = 8


class Settings(Struct, frozen=True, kw_only=True):
    """How replies are sent. Times in seconds."""

    max_body_bytes: int
    heartbeat_seconds: float
    hold_status_seconds: float
    hold_whole_seconds: float = 240.0
    """For a reply that is not streamed. Node's fetch gives up after 300 s without a header."""


class Service(Struct, kw_only=True):
    """What the routes need of the daemon."""

    turns: Turns
    find_model: openai_chat.FindModel
    offered_models: Callable[[], tuple[OfferedModel, ...]]
    version: str


def make_app(service: Service, settings: Settings) -> QuartTrio:
    """The app. It expects to be called through `Front`."""
    app = QuartTrio(__name__)
    prepare(app)
    budget = Budget(BODIES_IN_FLIGHT * settings.max_body_bytes)

    @app.get("/health")
    async def health() -> Response:
        return _json(msgspec.json.encode({"status": "ok", "version": service.version}))

    @app.get("/models")
    async def models() -> Response:
        return _json(openai_models.encode_list(service.offered_models()))

    @app.get("/models/<path:model>")
    async def model(model: str) -> Response:
        service.find_model(model)
        return _json(openai_models.encode_one(model, service.offered_models()))

    @app.post("/chat/completions")
    async def chat_completions() -> Response:
        body = await read_body(request, limit=settings.max_body_bytes, budget=budget)
        chat = openai_chat.decode(body, service.find_model)
        del body
        state = cast("dict[str, Any]", request.scope)["state"]
        stack: ExitStack = state["stack"]
        running = service.turns.run(
            chat.turn,
            client=_client(request),
            request_id=state["request_id"],
            conversation_id=request.headers.get("X-Conversation-Id"),
        )
        stream = stack.enter_context(running)
        state["headers"].append((b"x-conversation-id", stream.conversation_id.encode()))
        if chat.ignored:
            state["headers"].append((b"x-ignored-params", ", ".join(chat.ignored).encode()))
        reply_id = f"chatcmpl-{secrets.token_hex(12)}"
        created = int(time.time())
        if chat.stream:
            encoder = StreamEncoder(
                reply_id=reply_id,
                created=created,
                model=chat.model_id,
                include_usage=chat.include_usage,
            )
            response = await _streamed(stream, encoder, settings)
        else:
            collector = Collector(reply_id=reply_id, created=created, model=chat.model_id)
            response = await _whole(stream, collector, settings)
        return response

    @app.get("/conversations")
    async def conversations() -> Response:
        known = service.turns.conversations.of(_client(request))
        return _json(encode_list((each, service.turns.state_of(each)) for each in known))

    @app.get("/conversations/<conversation_id>")
    async def conversation(conversation_id: str) -> Response:
        known = service.turns.conversations.get(_client(request), conversation_id)
        if known is None:
            raise ConversationGone(NO_CONVERSATION, code="conversation_not_found")
        return _json(encode_one(known, service.turns.state_of(known)))

    @app.delete("/conversations/<conversation_id>")
    async def forget_conversation(conversation_id: str) -> Response:
        known = service.turns.forget(_client(request), conversation_id)
        if known is None:
            raise ConversationGone(NO_CONVERSATION, code="conversation_not_found")
        return _json(encode_deleted(known))

    @app.errorhandler(404)
    async def no_route(error: Exception) -> Response:
        raise BadRequest(
            f"There is no {request.method} on this path; chat is POST /v1/chat/completions.",
            status=404,
            code="unknown_url",
        )

    @app.errorhandler(405)
    async def no_method(error: Exception) -> Response:
        raise BadRequest(
            f"This path does not take {request.method}.", status=405, code="method_not_allowed"
        )

    return app


async def _streamed(stream: TurnStream, encoder: StreamEncoder, settings: Settings) -> Response:
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


async def _whole(stream: TurnStream, collector: Collector, settings: Settings) -> Response:
    """The reply as one object. A turn that takes longer than clients wait for a status is begun
    with white space, which JSON allows."""
    with trio.move_on_after(settings.hold_whole_seconds):
        return _json(await _collect(stream, collector))

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            with trio.move_on_after(settings.heartbeat_seconds):
                # A fault ends the connection in the middle of the body: the client must not
                # take an error under a 200 for an answer.
                yield await _collect(stream, collector)
                return

    response = Response(body(), content_type="application/json")
    response.timeout = None
    return response


async def _collect(stream: TurnStream, collector: Collector) -> bytes:
    while True:
        events = await stream.next_events()
        if (whole := collector.feed(events)) is not None:
            return whole
        if not events:
            raise WorkerDied("the turn ended without an answer")


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")


def _client(request: Request) -> str:
    """Whom the queue is fair to: the holder of a key, known by its hash alone."""
    key = request.headers.get("Authorization") or request.headers.get("X-Api-Key") or ""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
