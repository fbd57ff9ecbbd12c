"""The app: all routes, and what they need of the daemon."""

from collections.abc import Callable, Collection
from itertools import takewhile

import msgspec
import trio
from msgspec import Struct, field
from quart import Response, request
from quart_trio import QuartTrio

from maxd.daemon.overview import Overview
from maxd.daemon.stored_replies import StoredReplies
from maxd.daemon.turns import Turns
from maxd.http import anthropic_routes
from maxd.http.answering import Answering, client_in_progress
from maxd.http.body import Budget, read_body
from maxd.http.chat_routes import add_chat
from maxd.http.conversation_routes import add_conversations
from maxd.http.dialect import FindModel
from maxd.http.json_response import json_response
from maxd.http.model_routes import add_models
from maxd.http.quota_headers import Meter
from maxd.http.replying import Settings
from maxd.http.responses_routes import Responses, add_responses
from maxd.http.server import prepare
from maxd.http.status_pages import add_status_pages
from maxd.http.wishes import Wishes, wishes
from maxd.workers.faults import BadRequest
from maxd.workers.models import OfferedModel

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
        return json_response(msgspec.json.encode({"status": "ok", "version": service.version}))

    async def read() -> bytes:
        return await read_body(request, limit=settings.max_body_bytes, budget=budget)

    def wished() -> Wishes:
        return wishes(
            request.headers.get,
            strict=settings.strict_fields,
            thinking_profiles=service.shows_thinking(),
        )

    def scope() -> str:
        return client_in_progress().scope

    answer = Answering(service.turns, service.meter, settings).answer
    add_models(app, service.find_model, service.offered_models)
    add_conversations(app, service.turns, scope)
    add_chat(app, service.find_model, read=read, wished=wished, answer=answer)
    add_responses(
        app,
        Responses(service.find_model, service.searches, service.replies),
        read=read,
        answer=answer,
        scope=scope,
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
    _refuse_the_rest(app)
    return app


def _refuse_the_rest(app: QuartTrio) -> None:
    """Say what is wrong with a request that no route takes."""

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
