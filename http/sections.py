"""Which routes a listener answers, where the operator's pages have a socket of their own."""

from typing import TYPE_CHECKING

from maxd.http.credentials import DASHBOARD
from maxd.http.front import normal_path
from maxd.workers.faults import BadRequest

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

OPERATORS = ("/status", "/metrics")
"""The operator's pages, and what is below them; the files of the dashboard are too."""

EVERYWHERE = frozenset({"/health", "/ready"})


def is_operators(path: str) -> bool:
    """Whether this is a page for the operator."""
    normal = normal_path(path)
    return normal in DASHBOARD or any(
        normal == page or normal.startswith(page + "/") for page in OPERATORS
    )


class Section:
    """An ASGI app that knows the operator's pages only, or all but these; for others it raises."""

    def __init__(self, app: "ASGIFramework", *, operators: bool) -> None:
        self._app = app
        self._operators = operators

    async def __call__(
        self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable"
    ) -> None:
        assert scope["type"] == "http"
        path = scope["path"]
        if normal_path(path) not in EVERYWHERE and is_operators(path) is not self._operators:
            raise BadRequest("There is nothing on this path.", status=404, code="unknown_url")
        await self._app(scope, receive, send)
