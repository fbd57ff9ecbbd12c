"""The front put together: routes, guard and server on listening sockets."""

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.catalog import Catalog
from maxd.daemon.settings import Server
from maxd.daemon.turns import Turns
from maxd.http import server
from maxd.http.app import Service, make_app
from maxd.http.connection import Limits
from maxd.http.front import Front, with_request_id
from maxd.http.guard import Guarded, Policy
from maxd.http.http1 import Incident
from maxd.http.listeners import Listeners
from maxd.http.openai_errors import render
from maxd.http.replying import Settings

# For the last bytes of replies whose turns have ended.
GRACEFUL_SECONDS = 2.0


async def serve_http(
    settings: Server,
    listeners: Listeners,
    version: str,
    log: FilteringBoundLogger,
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
    )
    app = make_app(
        service,
        Settings(
            max_body_bytes=settings.max_body_bytes,
            heartbeat_seconds=settings.heartbeat_seconds,
            hold_status_seconds=settings.hold_status_seconds,
        ),
    )
    policy = Policy(
        hosts=frozenset(settings.allowed_hosts),
        origins=frozenset(settings.allowed_origins),
        body_bytes=settings.max_body_bytes,
    )

    def report(incident: Incident) -> None:
        log.warning("incident", place=incident.place, error=incident.error)

    await server.serve(
        Front(Guarded(app, policy, render), render),
        listeners.main,
        render=with_request_id(render),
        report=report,
        shutdown=shutdown,
        draining=draining if listeners.handed_over else None,
        limits=Limits(
            connections=settings.max_connections,
            send_seconds=settings.send_timeout_seconds,
            graceful_seconds=GRACEFUL_SECONDS,
        ),
        task_status=task_status,
    )
