"""The routes of the Messages API."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from quart import Response, request
from quart_trio import QuartTrio

from maxd.http import anthropic_messages, anthropic_reply, token_estimate
from maxd.http.anthropic_messages import HasTools, MessagesRequest
from maxd.http.dialect import Asked, FindModel
from maxd.http.json_response import json_response
from maxd.http.wishes import Wishes

ReadBody: TypeAlias = Callable[[], Awaitable[bytes]]
Answer: TypeAlias = Callable[[Asked], Awaitable[Response]]


def add_routes(
    app: QuartTrio,
    *,
    find_model: FindModel,
    has_tools: HasTools,
    read: ReadBody,
    wished: Callable[[], Wishes],
    answer: Answer,
) -> None:
    """Add them to `app`. `read` takes the body of the request in progress, `wished` what its
    headers wish for, `answer` runs a turn."""

    @app.post("/messages")
    async def messages() -> Response:
        asked = anthropic_reply.asked(await message(counts=False), _request_id())
        return _named(await answer(asked))

    @app.post("/messages/count_tokens")
    async def count_tokens() -> Response:
        counted = token_estimate.estimate((await message(counts=True)).turn)
        body = anthropic_reply.encode_count(counted)
        response = _named(json_response(body))
        response.headers["x-token-count"] = "estimate"
        return response

    async def message(*, counts: bool) -> MessagesRequest:
        body = await read()
        return anthropic_messages.decode(body, find_model, has_tools, wished(), counts=counts)


def _request_id() -> str:
    return str(cast("dict[str, Any]", request.scope)["state"]["request_id"])


def _named(response: Response) -> Response:
    # Errors get it where they are rendered.
    response.headers["request-id"] = _request_id()
    return response
