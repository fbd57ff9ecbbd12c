"""The routes: from a request to a turn, and from its events to a reply."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import Struct
from quart import Response, request
from quart_trio import QuartTrio

from maxd.daemon.turns import Turns
from maxd.http import (
    anthropic_models,
    anthropic_routes,
    openai_chat,
    openai_models,
    openai_reply,
)
from maxd.http.body import Budget, read_body
from maxd.http.conversations import encode_deleted, encode_list, encode_one
from maxd.http.credentials import Client, client_of
from maxd.http.dialect import Asked, FindModel
from maxd.http.dialects import speaks_anthropic
from maxd.http.quota_headers import Meter
from maxd.http.replying import Settings, streamed, whole
from maxd.http.server import prepare
from maxd.http.wishes import CONVERSATION, Wishes, wishes
from maxd.workers.faults import BadRequest, ConversationGone
from maxd.workers.models import OfferedModel

if TYPE_CHECKING:
    from contextlib import ExitStack


NO_CONVERSATION = "there is no such conversation under this API key"
# Bodies that are being read at the same time, over all requests.
BODIES_IN_FLIGHT = 8


class Service(Struct, kw_only=True):
    """What the routes need of the daemon."""

    turns: Turns
    find_model: FindModel
    offered_models: Callable[[], tuple[OfferedModel, ...]]
    version: str
    meter: Meter


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
        if speaks_anthropic(request.path, request.scope["headers"]):
            query = request.args
            page = anthropic_models.window(
                query.get("limit"), query.get("before_id"), query.get("after_id")
            )
            return _json(anthropic_models.encode_list(service.offered_models(), page))
        return _json(openai_models.encode_list(service.offered_models()))

    @app.get("/models/<path:model>")
    async def model(model: str) -> Response:
        service.find_model(model)
        if speaks_anthropic(request.path, request.scope["headers"]):
            return _json(anthropic_models.encode_one(model, service.offered_models()))
        return _json(openai_models.encode_one(model, service.offered_models()))

    @app.post("/chat/completions")
    async def chat_completions() -> Response:
        asked = openai_reply.asked(openai_chat.decode(await read(), service.find_model, wished()))
        return await answer(asked)

    async def read() -> bytes:
        return await read_body(request, limit=settings.max_body_bytes, budget=budget)

    def wished() -> Wishes:
        return wishes(
            request.headers.get,
            strict=settings.strict_fields,
            thinking_profiles=settings.show_thinking,
        )

    async def answer(asked: Asked) -> Response:
        """Run the turn that has been asked for, and reply as its dialect does."""
        state = cast("dict[str, Any]", request.scope)["state"]
        stack: ExitStack = state["stack"]
        streams = stack.enter_context(service.meter.counted(_client().key, state["headers"]))
        running = service.turns.run(
            asked.turn,
            client=_client().scope,
            key=_client().key,
            request_id=state["request_id"],
            conversation_id=request.headers.get(CONVERSATION),
        )
        stream = stack.enter_context(running)
        streams.append(stream)
        state["headers"].append((b"x-conversation-id", stream.conversation_id.encode()))
        if asked.ignored:
            state["headers"].append((b"x-ignored-params", ", ".join(asked.ignored).encode()))
        if asked.stream:
            return await streamed(stream, asked.encoder(), settings)
        return await whole(stream, asked.collector(), settings)

    anthropic_routes.add_routes(
        app,
        find_model=service.find_model,
        has_tools=service.turns.has_tools,
        read=read,
        wished=wished,
        answer=answer,
    )

    @app.get("/conversations")
    async def conversations() -> Response:
        known = service.turns.conversations.of(_client().scope)
        return _json(encode_list((each, service.turns.state_of(each)) for each in known))

    @app.get("/conversations/<conversation_id>")
    async def conversation(conversation_id: str) -> Response:
        known = service.turns.conversations.get(_client().scope, conversation_id)
        if known is None:
            raise ConversationGone(NO_CONVERSATION, code="conversation_not_found")
        return _json(encode_one(known, service.turns.state_of(known)))

    @app.delete("/conversations/<conversation_id>")
    async def forget_conversation(conversation_id: str) -> Response:
        known = service.turns.forget(_client().scope, conversation_id)
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


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")


def _client() -> Client:
    """Whom the queue is fair to, and whose conversations these are."""
    return client_of(cast("dict[str, Any]", request.scope)["state"])
