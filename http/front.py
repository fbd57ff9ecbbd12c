"""What every request passes on its way in and out: an id, one spelling of its path, an end."""

import re
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeAlias, cast

from maxd.daemon.observer import Replied
from maxd.http.guard import Render, Reply, send_reply
from maxd.workers.faults import Fault, first_leaf

if TYPE_CHECKING:
    from hypercorn.typing import (
        ASGIFramework,
        ASGIReceiveCallable,
        ASGISendCallable,
        ASGISendEvent,
        Scope,
    )

RenderIn: TypeAlias = "Callable[[Fault, Scope], Reply]"
"""Writes a fault in the shape that the client of a request expects."""

_CLIENTS_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Front:
    """The outermost ASGI app.

    - `scope["state"]["request_id"]` is the client's `X-Request-Id` where it is well formed, or a
      new one; it is on every reply.
    - Base URLs come with and without `/v1`, with a trailing slash and with `//`: all of them
      reach the route without.
    - `scope["state"]["stack"]` is an ExitStack that is left as soon as the last byte of the reply
      has been sent, or with the exception that ended the request before: what a handler has put
      there cannot outlive the request, and knows whether the client was sent all of it.
    - What a handler adds to `scope["state"]["headers"]` is on the reply, an error too.
    - A Fault that nobody has answered is rendered, while no reply has begun.
    - `on_reply` is told each request that is over. `name_route` gives the name that it is counted
      under. Where a handler has set `scope["state"]["turn"]`, a turn was run for it.
    """

    def __init__(
        self,
        app: "ASGIFramework",
        render: RenderIn,
        *,
        on_reply: Callable[[Replied], None] = lambda reply: None,
        name_route: Callable[[str], str] = lambda path: path,
    ) -> None:
        self._app = app
        self._render = render
        self._on_reply = on_reply
        self._name_route = name_route

    async def __call__(
        self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable"
    ) -> None:
        assert scope["type"] == "http"
        request_id = _request_id(scope["headers"])
        started = time.monotonic()
        status: int | None = None

        async def send_with_id(event: "ASGISendEvent") -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
                event = cast("ASGISendEvent", {**event, "headers": [*event["headers"], *added]})
            await send(event)
            if event["type"] == "http.response.body" and not event.get("more_body", False):
                stack.close()

        added = [(b"x-request-id", request_id)]
        path, method = normal_path(scope["path"]), scope["method"]
        fault: Fault | None = None
        state: dict[str, object] = {"request_id": request_id.decode(), "headers": added}

        def over() -> None:
            reply = Replied(
                request=request_id.decode(),
                method=method,
                route=self._name_route(path),
                status=status,
                code=None if fault is None else fault.code,
                seconds=round(time.monotonic() - started, 4),
                turn="turn" in state,
            )
            self._on_reply(reply)

        with ExitStack() as stack:
            stack.callback(over)
            state["stack"] = stack
            inner = cast("Scope", {**scope, "path": path, "state": state})
            try:
                await self._app(inner, receive, send_with_id)
            # A group: the app runs its handlers in a nursery.
            except* Fault as group:
                if status is not None:
                    raise
                fault = first_leaf(group)
            if fault is not None:
                await send_reply(send_with_id, self._render(fault, inner))


def normal_path(path: str) -> str:
    """`path` without doubled and trailing slashes and without a leading `/v1`."""
    segments = [segment for segment in path.split("/") if segment]
    if segments[:1] == ["v1"]:
        del segments[0]
    return "/" + "/".join(segments)


def with_request_id(render: Render) -> Render:
    """`render` for replies to what never reached a Front: they get an id of their own."""

    def render_with_id(fault: Fault) -> Reply:
        status, headers, body = render(fault)
        return status, [*headers, (b"x-request-id", _new_id())], body

    return render_with_id


def _new_id() -> bytes:
    return b"req_" + secrets.token_hex(12).encode()


def _request_id(headers: "list[tuple[bytes, bytes]] | object") -> bytes:
    for name, value in cast("list[tuple[bytes, bytes]]", headers):
        if name == b"x-request-id" and _CLIENTS_ID.fullmatch(value):
            return value
    return _new_id()
