"""The front put together: routes, guard and server on listening sockets."""

import socket
from functools import partial
from typing import Any, cast

import trio
from hypercorn.typing import ASGIFramework, Scope
from structlog.typing import FilteringBoundLogger

from maxd.daemon.catalog import Catalog
from maxd.daemon.keys import KeyRing
from maxd.daemon.quotas import Quotas
from maxd.daemon.settings import Server
from maxd.daemon.turns import Turns
from maxd.http import dialects, server
from maxd.http.app import Service, make_app
from maxd.http.barrier import Barrier
from maxd.http.connection import Limits
from maxd.http.credentials import identify
from maxd.http.front import Front, with_request_id
from maxd.http.guard import Guarded, Policy
from maxd.http.http1 import Incident
from maxd.http.listeners import Listeners
from maxd.http.openai_errors import render
from maxd.http.quota_headers import Meter
from maxd.http.replying import Settings
from maxd.http.sections import Section

# For the last bytes of replies whose turns have ended.
GRACEFUL_SECONDS = 2.0


async def serve_http(
    settings: Server,
    listeners: Listeners,
    version: str,
    log: FilteringBoundLogger,
    ring: KeyRing,
    quotas: Quotas,
    turns: Turns,
    catalog: Catalog,
    draining: trio.Event,
    shutdown: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP requests on `listeners`, which it closes, until `shutdown`; from `draining` on
    no new connection is accepted on what the next daemon is handed too."""
    service = Service(
        turns=turns,
        find_model=catalog.find,
        offered_models=catalog.offered,
        version=version,
        meter=Meter(ring, quotas),
    )
    app = make_app(
        service,
        Settings(
            max_body_bytes=settings.max_body_bytes,
            heartbeat_seconds=settings.heartbeat_seconds,
            hold_status_seconds=settings.hold_status_seconds,
            strict_fields=settings.strict_fields,
            show_thinking=settings.show_thinking,
        ),
    )
    policy = Policy(
        hosts=frozenset(settings.allowed_hosts),
        origins=frozenset(settings.allowed_origins),
        body_bytes=settings.max_body_bytes,
    )

    def report(incident: Incident) -> None:
        log.warning("incident", place=incident.place, error=incident.error)

    def guarded(ring: KeyRing) -> ASGIFramework:
        def admit(scope: Scope) -> None:
            assert scope["type"] == "http"
            client = identify(ring, scope["path"], scope["headers"])
            cast("dict[str, Any]", scope)["state"]["client"] = client

        return Guarded(Barrier(app, report), policy, admit)

    limits = Limits(
        connections=settings.max_connections,
        send_seconds=settings.send_timeout_seconds,
        graceful_seconds=GRACEFUL_SECONDS,
    )

    async def serve(
        app: ASGIFramework, sockets: list[socket.socket], *, task_status: trio.TaskStatus[None]
    ) -> None:
        await server.serve(
            Front(app, dialects.render),
            sockets,
            render=with_request_id(render),
            report=report,
            shutdown=shutdown,
            draining=draining if listeners.handed_over else None,
            limits=limits,
            task_status=task_status,
        )

    everything = guarded(ring)
    async with trio.open_nursery() as nursery:
        if listeners.admin:
            # Who can open a UNIX socket of mode 0600 is this user, and needs no key.
            private = all(sock.family == socket.AF_UNIX for sock in listeners.admin)
            pages = guarded(KeyRing({})) if private else everything
            pages = Section(pages, operators=True)
            await nursery.start(partial(serve, pages, listeners.admin))
            everything = Section(everything, operators=False)
        await nursery.start(partial(serve, everything, listeners.main))
        task_status.started()
