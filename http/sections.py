"""Which routes a listener answers, where the operator's pages have a socket of their own."""

from typing import TYPE_CHECKING

from maxd.http.front import normal_path
from maxd.http.guard import Render, send_reply
from maxd.workers.faults import BadRequest

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

OPERATORS = ("/", "/status", "/metrics", "/dashboard")
"""The operator's pages, and what is below them."""

EVERYWHERE = frozenset({"/health", "/ready"})


def is_operators(path: str) -> bool:
    """Whether this is a page for the operator."""
    normal = normal_path(path)
    return any(
        normal == page or (page != "/" and normal.startswith(page + "/")) for page in OPERATORS
    )


class Section:
    """An ASGI app that knows the operator's pages only, or all but these."""

    def __init__(self, app: "ASGIFramework", render: Render, *, operators: bool) -> None:
        self._app = app
        self._render = render
        self._operators = operators

    async def __call__(
        self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable"
    ) -> None:
        assert scope["type"] == "http"
        path = scope["path"]
        if normal_path(path) in EVERYWHERE or is_operators(path) is self._operators:
            await self._app(scope, receive, send)
            return
        fault = BadRequest("There is nothing on this path.", status=404, code="unknown_url")
        await send_reply(send, self._render(fault))
