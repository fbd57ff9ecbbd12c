"""The routes: from a request to a turn, and from its events to a reply."""

import time
from collections.abc import Callable, Collection
from itertools import takewhile
from typing import TYPE_CHECKING, Any, cast

import msgspec
import trio
from msgspec import Struct, field
from quart import Response, request
from quart_trio import QuartTrio

from maxd.daemon.overview import Overview
from maxd.daemon.stored_replies import StoredReplies
from maxd.daemon.turn_facts import server_timing
from maxd.daemon.turns import Turns
from maxd.http import (
    anthropic_models,
    anthropic_routes,
    openai_chat,
    openai_models,
    openai_reply,
)
from maxd.http.account_headers import account_headers
from maxd.http.body import Budget, read_body
from maxd.http.conversations import encode_deleted, encode_list, encode_one
from maxd.http.credentials import Client, client_of
from maxd.http.dialect import Asked, FindModel
from maxd.http.dialects import speaks_anthropic
from maxd.http.quota_headers import Meter
from maxd.http.replying import Settings, streamed, waiting_client, whole
from maxd.http.responses_routes import Responses, add_responses
from maxd.http.server import prepare
from maxd.http.status_pages import add_status_pages
from maxd.http.streaming_header import streaming_of
from maxd.http.wishes import CONVERSATION, Wishes, wishes
from maxd.workers.faults import BadRequest, ConversationGone
from maxd.workers.models import OfferedModel

if TYPE_CHECKING:
    from contextlib import ExitStack


NO_CONVERSATION = "there is no such conversation under this API key"
# What the log and the metrics call the routes that run turns.
DIALECTS = {"/chat/completions": "chat", "/responses": "responses", "/messages": "messages"}
# Bodies that are being read at the same time, over all requests.
BODIES_IN_FLIGHT = 8


class Service(Struct, kw_only=True):
    """What the routes need of the daemon."""

    turns: Turns
    find_model: FindModel
    offered_models: Callable[[], tuple[OfferedModel, ...]]
    searches: Callable[[str], bool]
    """Whether the workers of a profile can search the web."""
    replies: StoredReplies | None
    """Where replies are stored, if they are."""
    version: str
    meter: Meter
    shows_thinking: Callable[[], Collection[str]] = tuple
    """The profiles whose model's thinking is shown."""
    overview: Overview | None = None
    """What the operator's pages show; None where they are not served."""
    shutdown: trio.Event = field(default_factory=trio.Event)


def make_app(service: Service, settings: Settings) -> QuartTrio:
    """The app. It expects to be called through `Front`."""
    app = QuartTrio(__name__, static_folder=None)
    prepare(app)
    budget = Budget(BODIES_IN_FLIGHT * settings.max_body_bytes)
    if service.overview is not None:
        add_status_pages(app, service.overview, service.shutdown)

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
            thinking_profiles=service.shows_thinking(),
        )

    async def answer(asked: Asked) -> Response:
        """Run the turn that has been asked for, and reply as its dialect does."""
        state = cast("dict[str, Any]", request.scope)["state"]
        stack: ExitStack = state["stack"]
        # The limits of the key come first: where both have one, the account's is not the nearer.
        count_out = service.meter.count_in(_client().key, state["headers"])
        told = {name for name, _ in state["headers"]}
        account = account_headers(service.turns.gate.account, time.time())
        state["headers"].extend(each for each in account if each[0] not in told)
        running = service.turns.run(
            asked.turn,
            client=_client().scope,
            request_id=state["request_id"],
            conversation_id=request.headers.get(CONVERSATION),
            streaming=streaming_of(request.headers.items()),
            dialect=DIALECTS.get(request.path, "other"),
            key=_client().key,
            on_end=count_out,
        )
        state["turn"] = True
        stream = stack.enter_context(running)
        state["headers"].append((b"x-conversation-id", stream.conversation_id.encode()))
        if asked.ignored:
            state["headers"].append((b"x-ignored-params", ", ".join(asked.ignored).encode()))
        try:
            if asked.stream:
                return await streamed(stream, asked.encoder(), settings, asked.settle)
            waiting = waiting_client(cast("dict[str, Any]", request.scope))
            return await whole(stream, asked.collector(), settings, waiting, asked.settle)
        finally:
            if timing := server_timing(stream.timings()):
                state["headers"].append((b"server-timing", timing.encode()))

    add_responses(
        app,
        Responses(service.find_model, service.searches, service.replies),
        read=read,
        answer=answer,
        client=lambda request: _client().scope,
        wished=wished,
    )

    anthropic_routes.add_routes(
        app,
        find_model=service.find_model,
        has_tools=service.searches,
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


def route_names(app: QuartTrio) -> Callable[[str], str]:
    """What the requests of `app` are counted under: the first segment of a path that has a route,
    two where a route has two, and `other` for what has none, so that clients invent no names."""
    rules = [rule.rule.strip("/").split("/") for rule in app.url_map.iter_rules()]
    fixed = {tuple(takewhile(lambda word: "<" not in word, words)) for words in rules}

    def name(path: str) -> str:
        words = tuple(path.strip("/").split("/"))
        known = next((words[:n] for n in (len(words), 2, 1) if words[:n] in fixed), None)
        return "other" if known is None else "/" + "/".join(known)

    return name


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")


def _client() -> Client:
    """Whom the queue is fair to, and whose conversations these are."""
    return client_of(cast("dict[str, Any]", request.scope)["state"])
