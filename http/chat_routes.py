"""The route of chat completions."""

from collections.abc import Awaitable, Callable

from quart import Response
from quart_trio import QuartTrio

from maxd.http import openai_chat, openai_reply
from maxd.http.dialect import Asked, FindModel
from maxd.http.wishes import Wishes


def add_chat(
    app: QuartTrio,
    find_model: FindModel,
    *,
    read: Callable[[], Awaitable[bytes]],
    wished: Callable[[], Wishes],
    answer: Callable[[Asked], Awaitable[Response]],
) -> None:
    """Add it. `read` takes the body of the request in progress, `wished` what its headers wish
    for, `answer` runs a turn."""

    @app.post("/chat/completions")
    async def chat_completions() -> Response:
        asked = openai_reply.asked(openai_chat.decode(await read(), find_model, wished()))
        return await answer(asked)
