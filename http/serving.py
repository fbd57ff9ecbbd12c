"""The front put together: routes, guard and server on listening sockets."""

import socket
from collections.abc import Sequence

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.catalog import Catalog
from maxd.daemon.observer import Replied
from maxd.daemon.overview import Overview
from maxd.daemon.settings import Server
from maxd.daemon.stored_replies import StoredReplies
from maxd.daemon.turns import Turns
from maxd.http import dialects, server
from maxd.http.app import Service, make_app, route_names
from maxd.http.barrier import Barrier
from maxd.http.connection import Limits
from maxd.http.front import Front, with_request_id
from maxd.http.guard import Guarded, Policy
from maxd.http.http1 import Incident
from maxd.http.openai_errors import render
from maxd.http.replying import Settings
from maxd.workers.profiles import BUILT_IN

# For the last bytes of replies whose turns have ended.
GRACEFUL_SECONDS = 2.0


async def serve_http(
    settings: Server,
    sockets: Sequence[socket.socket],
    version: str,
    log: FilteringBoundLogger,
    turns: Turns,
    catalog: Catalog,
    shutdown: trio.Event,
    *,
    overview: Overview | None = None,
    replies: StoredReplies | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP requests on `sockets`, which it closes, until `shutdown`. Without an `overview`
    there are no operator's pages, and without `replies` none are stored."""
    service = Service(
        turns=turns,
        find_model=catalog.find,
        offered_models=catalog.offered,
        searches=lambda profile: BUILT_IN[profile].tools == "all",
        replies=replies,
        version=version,
        overview=overview,
        shutdown=shutdown,
    )
    app = make_app(
        service,
        Settings(
            max_body_bytes=settings.max_body_bytes,
            heartbeat_seconds=settings.heartbeat_seconds,
            hold_status_seconds=settings.hold_status_seconds,
            strict_fields=settings.strict_fields,
            # Tools are shown as thinking.
            show_thinking=(*settings.show_thinking, *_showing_tools(catalog)),
        ),
    )
    policy = Policy(
        hosts=frozenset(settings.allowed_hosts),
        origins=frozenset(settings.allowed_origins),
        body_bytes=settings.max_body_bytes,
    )

    def report(incident: Incident) -> None:
        log.warning("incident", place=incident.place, error=incident.error)

    def replied(reply: Replied) -> None:
        if overview is not None:
            overview.observer.replied(reply)
        # Those with a turn have a line of their own.
        if not reply.turn:
            refused = (reply.status or 500) >= 400
            tell = log.info if refused else log.debug
            tell("request refused" if refused else "request", **msgspec.structs.asdict(reply))

    await server.serve(
        Front(
            Guarded(Barrier(app, report), policy),
            dialects.render,
            on_reply=replied,
            name_route=route_names(app),
        ),
        sockets,
        render=with_request_id(render),
        report=report,
        shutdown=shutdown,
        limits=Limits(
            connections=settings.max_connections,
            send_seconds=settings.send_timeout_seconds,
            graceful_seconds=GRACEFUL_SECONDS,
        ),
        task_status=task_status,
    )


def _showing_tools(catalog: Catalog) -> list[str]:
    return [name for name, profile in catalog.profiles.items() if profile.show_tools]
