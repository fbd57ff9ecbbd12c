"""The routes of the Messages API."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from quart import Response, request
from quart_trio import QuartTrio

from maxd.http import anthropic_messages, anthropic_reply, token_estimate
from maxd.http.anthropic_messages import HasTools, MessagesRequest
from maxd.http.dialect import Asked, FindModel

ReadBody: TypeAlias = Callable[[], Awaitable[bytes]]
Answer: TypeAlias = Callable[[Asked], Awaitable[Response]]


def add_routes(
    app: QuartTrio, read: ReadBody, answer: Answer, find_model: FindModel, has_tools: HasTools
) -> None:
    """Add them to `app`. `read` takes the body of the request in progress, `answer` runs a turn."""

    @app.post("/messages")
    async def messages() -> Response:
        asked = anthropic_reply.asked(await message(counts=False), _request_id())
        return _named(await answer(asked))

    @app.post("/messages/count_tokens")
    async def count_tokens() -> Response:
        counted = token_estimate.estimate((await message(counts=True)).turn)
        body = anthropic_reply.encode_count(counted)
        response = _named(Response(body, content_type="application/json"))
        response.headers["x-token-count"] = "estimate"
        return response

    async def message(*, counts: bool) -> MessagesRequest:
        return anthropic_messages.decode(
            await read(),
            find_model,
            has_tools,
            continues="X-Conversation-Id" in request.headers,
            counts=counts,
        )


def _request_id() -> str:
    return str(cast("dict[str, Any]", request.scope)["state"]["request_id"])


def _named(response: Response) -> Response:
    # Errors get it where they are rendered.
    response.headers["request-id"] = _request_id()
    return response
