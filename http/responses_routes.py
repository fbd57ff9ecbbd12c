"""OpenAI Responses: its routes, and what it keeps."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import msgspec
from msgspec import Struct
from quart import Request, Response, request
from quart_trio import QuartTrio

from maxd.daemon.reply_store import StoredReply
from maxd.daemon.stored_replies import StoredReplies
from maxd.http.dialect import Asked, FindModel
from maxd.http.responses_items import Item, new_response_id, page, restore, stored
from maxd.http.responses_objects import ResponseObject, encode_response
from maxd.http.responses_reply import Collector, Reply, StreamEncoder, begin
from maxd.http.responses_request import Parsed, make_turn, parse
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
    """Makes turns of requests, and keeps their responses for their clients.

    `searches` tells whether the workers of a profile can search the web.
    """

    def __init__(
        self, find_model: FindModel, searches: Callable[[str], bool], replies: StoredReplies
    ) -> None:
        self._find_model = find_model
        self._searches = searches
        self._replies = replies

    async def ask(self, body: bytes, scope: str, *, alone: bool) -> Asked:
        """What the request in `body` asks for. `alone`: it names its conversation in another way.
        Raises BadRequest naming the field, ModelNotFound, TooLarge, Overloaded."""
        parsed = parse(body)
        previous = parsed.body.previous_response_id
        history = [] if previous is None else await self._history(scope, previous)
        items = parsed.resolve(await self._referred(parsed, scope))
        turn = make_turn(parsed, history, items, self._find_model, self._searches, alone=alone)
        stores = parsed.stores and self._replies.enabled
        response = begin(parsed, new_response_id(), stores=stores)
        reply = Reply(
            response,
            summarizes=parsed.summarizes,
            seals=parsed.seals,
            searches=parsed.tools.web_search,
        )
        settle = None
        if stores:
            reply.on_end = partial(self._keep, scope, stored(items, response.id))
            settle = partial(self._replies.settle, scope, response.id)
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
        found = await self._replies.get(scope, response_id) if self._replies.enabled else None
        if found is None:
            raise _not_found()
        return found

    async def delete(self, scope: str, response_id: str) -> None:
        """Forget a stored response. Raises BadRequest if there is none."""
        if not self._replies.enabled or not await self._replies.delete(scope, response_id):
            raise _not_found()

    def _keep(self, scope: str, items: bytes, response: ResponseObject) -> None:
        self._replies.save_nowait(
            StoredReply(
                scope=scope,
                id=response.id,
                previous=response.previous_response_id,
                created=response.created_at,
                items=items,
                body=encode_response(response),
            )
        )

    async def _history(self, scope: str, response_id: str) -> list[Item]:
        """The items of a stored response and of all before it."""
        line = await self._replies.line(scope, response_id) if self._replies.enabled else None
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
        for response_id in parsed.references if self._replies.enabled else ():
            reply = await self._replies.get(scope, response_id)
            if reply is not None:
                known |= {item.id or "": item for item in restore(b"[]", reply.body)}
        return known


def add_responses(
    app: QuartTrio,
    responses: Responses,
    *,
    read: Callable[[], Awaitable[bytes]],
    answer: Answer,
    client: Callable[[Request], str],
) -> None:
    """Add the routes. `read` gives the body of the request, `answer` runs what it asks for, and
    `client` is whose it is."""

    @app.post("/responses")
    async def create_response() -> Response:
        alone = "X-Conversation-Id" in request.headers
        body = await read()
        asked = await responses.ask(body, client(request), alone=alone)
        del body
        return await answer(asked)

    @app.get("/responses/<response_id>")
    async def get_response(response_id: str) -> Response:
        if request.args.get("stream") == "true":
            raise BadRequest("only background responses can be streamed again", param="stream")
        return _json((await responses.get(client(request), response_id)).body)

    @app.delete("/responses/<response_id>")
    async def delete_response(response_id: str) -> Response:
        await responses.delete(client(request), response_id)
        return _json(msgspec.json.encode(Deleted(response_id)))

    @app.post("/responses/<response_id>/cancel")
    async def cancel_response(response_id: str) -> Response:
        await responses.get(client(request), response_id)
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
        found = await responses.get(client(request), response_id)
        items, more = page(
            found.items,
            after=request.args.get("after"),
            limit=limit,
            newest_first=order == "desc",
        )
        ends = (items[0].id, items[-1].id) if items else (None, None)
        return _json(msgspec.json.encode(Listing(items, *ends, more)))


def _limit(value: str | None) -> int:
    if value is None:
        return LISTED
    if not (value.isascii() and value.isdecimal()) or not 1 <= int(value) <= MOST_LISTED:
        raise BadRequest(f"must be a number from 1 to {MOST_LISTED}", param="limit")
    return int(value)


def _not_found() -> BadRequest:
    return BadRequest(
        "There is no such response under this API key.",
        param="response_id",
        status=404,
        code="response_not_found",
    )


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")
