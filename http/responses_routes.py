"""OpenAI Responses: its routes, and what it keeps."""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import msgspec
from msgspec import Struct
from quart import Response, request
from quart_trio import QuartTrio

from maxd.daemon.reply_store import StoredReply
from maxd.daemon.stored_replies import StoredReplies
from maxd.http.dialect import Asked, FindModel
from maxd.http.json_response import json_response
from maxd.http.responses_items import Item, new_response_id, page, restore, stored
from maxd.http.responses_objects import ResponseObject, encode_response
from maxd.http.responses_reply import Collector, Reply, StreamEncoder, begin
from maxd.http.responses_request import Parsed, make_turn, parse
from maxd.http.wishes import Wishes
from maxd.workers.faults import BadRequest

Answer: TypeAlias = Callable[[Asked], Awaitable[Response]]

MOST_LISTED = 100
LISTED = 20


class Listing(Struct):
    """`GET /v1/responses/{id}/input_items`."""

    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


class Deleted(Struct):
    id: str
    object: str = "response"
    deleted: bool = True


class Responses:
    """Makes turns of requests, and keeps their responses for their clients in `replies`, if that
    is given.

    `searches` tells whether the workers of a profile can search the web.
    """

    def __init__(
        self,
        find_model: FindModel,
        searches: Callable[[str], bool],
        replies: StoredReplies | None,
    ) -> None:
        self._find_model = find_model
        self._searches = searches
        self._replies = replies

    async def ask(self, body: bytes, scope: str, wishes: Wishes) -> Asked:
        """What the request in `body` asks for. Raises BadRequest naming the field, ModelNotFound,
        TooLarge, Overloaded."""
        parsed = parse(body, strict=wishes.strict)
        previous = parsed.body.previous_response_id
        history = [] if previous is None else await self._history(scope, previous)
        items = parsed.resolve(await self._referred(parsed, scope))
        turn = make_turn(
            parsed, history, items, self._find_model, self._searches, alone=wishes.partial
        )
        replies = self._replies if parsed.stores else None
        response = begin(parsed, new_response_id(), stores=replies is not None)
        reply = Reply(
            response,
            # A summary is the client's choice in each request; the header is a stronger one.
            summarizes=parsed.summarizes if wishes.thinking is None else wishes.thinking,
            seals=parsed.seals,
            searches=parsed.tools.web_search,
        )
        settle = None
        if replies is not None:
            reply.on_end = partial(_keep, replies, scope, stored(items, response.id))
            settle = partial(replies.settle, scope, response.id)
        return Asked(
            turn=turn,
            stream=bool(parsed.body.stream),
            ignored=parsed.ignored,
            encoder=partial(StreamEncoder, reply),
            collector=partial(Collector, reply),
            settle=settle,
        )

    async def get(self, scope: str, response_id: str) -> StoredReply:
        """A stored response. Raises BadRequest if there is none."""
        found = await self._replies.get(scope, response_id) if self._replies else None
        if found is None:
            raise _not_found()
        return found

    async def delete(self, scope: str, response_id: str) -> None:
        """Forget a stored response. Raises BadRequest if there is none."""
        if self._replies is None or not await self._replies.delete(scope, response_id):
            raise _not_found()

    async def _history(self, scope: str, response_id: str) -> list[Item]:
        """The items of a stored response and of all before it."""
        line = await self._replies.line(scope, response_id) if self._replies else None
        if line is None:
            raise BadRequest(
                "Previous response not found: it was not stored, has expired or was deleted, or "
                "one before it was. Send the whole conversation as input.",
                param="previous_response_id",
                status=404,
                code="previous_response_not_found",
            )
        return [item for reply in line for item in restore(reply.items, reply.body)]

    async def _referred(self, parsed: Parsed, scope: str) -> dict[str, Item]:
        """The items of the responses that the request's items refer to, by their ids."""
        known: dict[str, Item] = {}
        if self._replies is None:
            return known
        for response_id in parsed.references:
            reply = await self._replies.get(scope, response_id)
            if reply is not None:
                known |= {item.id or "": item for item in restore(b"[]", reply.body)}
        return known


def _keep(replies: StoredReplies, scope: str, items: bytes, response: ResponseObject) -> None:
    replies.save_nowait(
        StoredReply(
            scope=scope,
            id=response.id,
            previous=response.previous_response_id,
            created=response.created_at,
            items=items,
            body=encode_response(response),
        )
    )


def add_responses(
    app: QuartTrio,
    responses: Responses,
    *,
    read: Callable[[], Awaitable[bytes]],
    answer: Answer,
    scope: Callable[[], str],
    wished: Callable[[], Wishes],
) -> None:
    """Add the routes. Of the request in progress `read` gives the body, `wished` what its headers
    wish and `scope` whose it is; `answer` runs what it asks for."""

    @app.post("/responses")
    async def create_response() -> Response:
        body = await read()
        asked = await responses.ask(body, scope(), wished())
        del body
        return await answer(asked)

    @app.get("/responses/<response_id>")
    async def get_response(response_id: str) -> Response:
        if request.args.get("stream") == "true":
            raise BadRequest("only background responses can be streamed again", param="stream")
        return json_response((await responses.get(scope(), response_id)).body)

    @app.delete("/responses/<response_id>")
    async def delete_response(response_id: str) -> Response:
        await responses.delete(scope(), response_id)
        return json_response(msgspec.json.encode(Deleted(response_id)))

    @app.post("/responses/<response_id>/cancel")
    async def cancel_response(response_id: str) -> Response:
        await responses.get(scope(), response_id)
        raise BadRequest(
            "Cannot cancel a synchronous response: close its connection instead.",
            param="response_id",
        )

    @app.get("/responses/<response_id>/input_items")
    async def list_input_items(response_id: str) -> Response:
        limit = _limit(request.args.get("limit"))
        order = request.args.get("order", "desc")
        if order not in ("asc", "desc"):
            raise BadRequest("must be asc or desc", param="order")
        found = await responses.get(scope(), response_id)
        items, more = page(
            found.items,
            after=request.args.get("after"),
            limit=limit,
            newest_first=order == "desc",
        )
        ends = (items[0].id, items[-1].id) if items else (None, None)
        return json_response(msgspec.json.encode(Listing(items, *ends, more)))


def _limit(value: str | None) -> int:
    if value is None:
        return LISTED
    # Three digits hold every limit there is; int() refuses some thousands of them.
    if not re.fullmatch("[0-9]{1,3}", value) or not 1 <= int(value) <= MOST_LISTED:
        raise BadRequest(f"must be a number from 1 to {MOST_LISTED}", param="limit")
    return int(value)


def _not_found() -> BadRequest:
    return BadRequest(
        "There is no such response under this API key.",
        param="response_id",
        status=404,
        code="response_not_found",
    )
