"""The routes by which clients see and forget their conversations."""

from collections.abc import Callable

from quart import Response
from quart_trio import QuartTrio

from maxd.daemon.turns import Turns
from maxd.http.conversations import encode_deleted, encode_list, encode_one
from maxd.http.json_response import json_response
from maxd.workers.faults import ConversationGone

NO_CONVERSATION = "there is no such conversation under this API key"


def add_conversations(app: QuartTrio, turns: Turns, scope: Callable[[], str]) -> None:
    """Add the routes. `scope` tells whose conversations the request in progress may see."""

    @app.get("/conversations")
    async def conversations() -> Response:
        known = turns.conversations.of(scope())
        return json_response(encode_list((each, turns.state_of(each)) for each in known))

    @app.get("/conversations/<conversation_id>")
    async def conversation(conversation_id: str) -> Response:
        known = turns.conversations.get(scope(), conversation_id)
        if known is None:
            raise ConversationGone(NO_CONVERSATION, code="conversation_not_found")
        return json_response(encode_one(known, turns.state_of(known)))

    @app.delete("/conversations/<conversation_id>")
    async def forget_conversation(conversation_id: str) -> Response:
        known = turns.forget(scope(), conversation_id)
        if known is None:
            raise ConversationGone(NO_CONVERSATION, code="conversation_not_found")
        return json_response(encode_deleted(known))
