"""Which routes each listener answers, and behind which guard: the operator's pages may have a
socket of their own."""

import socket
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from maxd.daemon.keys import KeyRing
from maxd.daemon.settings import Server
from maxd.http.barrier import Barrier
from maxd.http.credentials import DASHBOARD, identify
from maxd.http.front import normal_path
from maxd.http.guard import Guarded, Policy
from maxd.http.http1 import Report
from maxd.http.listeners import Listeners
from maxd.workers.faults import BadRequest

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

Served: TypeAlias = "tuple[ASGIFramework, list[socket.socket]]"
"""An app and the sockets on which it answers."""

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


def sections(
    app: "ASGIFramework", settings: Server, listeners: Listeners, ring: KeyRing, report: Report
) -> list[Served]:
    """What each socket is to serve of `app`: all of it, or what is the operator's apart from the
    rest; and only to whom the `settings` allow it and, where `ring` has keys, who has one. `report`
    is told what handlers have not caught."""
    policy = Policy(
        hosts=frozenset(settings.allowed_hosts),
        origins=frozenset(settings.allowed_origins),
        body_bytes=settings.max_body_bytes,
    )
    barrier = Barrier(app, report)
    everything = _guarded(barrier, policy, ring)
    if not listeners.admin:
        return [(everything, listeners.main)]
    # Who can open a UNIX socket of mode 0600 is this user, and needs no key.
    private = all(sock.family == socket.AF_UNIX for sock in listeners.admin)
    pages = _guarded(barrier, policy, KeyRing({})) if private else everything
    return [
        (Section(pages, operators=True), listeners.admin),
        (Section(everything, operators=False), listeners.main),
    ]


def _guarded(app: "ASGIFramework", policy: Policy, ring: KeyRing) -> Guarded:
    def admit(scope: "Scope") -> None:
        assert scope["type"] == "http"
        client = identify(ring, scope["path"], scope["headers"])
        cast("dict[str, Any]", scope)["state"]["client"] = client

    return Guarded(app, policy, admit)
