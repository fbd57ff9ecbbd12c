"""What a failing handler looks like from outside: a fault without a word of what went wrong."""

from typing import TYPE_CHECKING

from maxd.http.http1 import Report, incident
from maxd.workers.faults import Fault, internal_error

if TYPE_CHECKING:
    from hypercorn.typing import (
        ASGIFramework,
        ASGIReceiveCallable,
        ASGISendCallable,
        ASGISendEvent,
        Scope,
    )


class Barrier:
    """An ASGI app that raises faults only, as long as no reply has begun: what encloses it can
    tell them in the dialect of the request. `report` is told what else was raised."""

    def __init__(self, app: "ASGIFramework", report: Report) -> None:
        self._app = app
        self._report = report

    async def __call__(
        self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable"
    ) -> None:
        begun = False

        async def noting_send(event: "ASGISendEvent") -> None:
            nonlocal begun
            begun = True
            await send(event)

        try:
            await self._app(scope, receive, noting_send)
        except* Fault:
            raise
        # Whatever a handler may raise: it is reported here, or, once a reply has begun, by the
        # server, which breaks the reply off.
        except* Exception as group:
            if begun:
                raise
            self._report(incident("handler", group))
            raise internal_error() from None
