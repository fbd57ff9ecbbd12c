"""The front put together: routes, guard and server on listening sockets."""

from functools import partial

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.catalog import Catalog
from maxd.daemon.keys import KeyRing
from maxd.daemon.observer import Observer, Replied
from maxd.daemon.overview import Overview
from maxd.daemon.quotas import Quotas
from maxd.daemon.settings import Server
from maxd.daemon.stored_replies import StoredReplies
from maxd.daemon.turns import Turns
from maxd.http import dialects, server
from maxd.http.app import Service, make_app, route_names
from maxd.http.connection import Limits
from maxd.http.front import Front, with_request_id
from maxd.http.incident_log import IncidentLog
from maxd.http.listeners import Listeners
from maxd.http.openai_errors import render
from maxd.http.quota_headers import Meter
from maxd.http.replying import Settings
from maxd.http.sections import sections

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
    overview: Overview | None = None,
    replies: StoredReplies | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP requests on `listeners`, which it closes, until `shutdown`; from `draining` on
    no new connection is accepted on what the next daemon is handed too. Without an `overview`
    there are no operator's pages, and without `replies` none are stored."""
    service = Service(
        turns=turns,
        find_model=catalog.find,
        offered_models=catalog.offered,
        searches=lambda profile: catalog.profiles[profile].searches,
        shows_thinking=lambda: (*settings.show_thinking, *_showing_tools(catalog)),
        replies=replies,
        version=version,
        meter=Meter(ring, quotas),
        overview=overview,
        shutdown=shutdown,
    )
    app = make_app(service, _replying(settings))
    names = route_names(app)
    incidents = IncidentLog(log)
    replied = partial(_note_reply, Observer() if overview is None else overview.observer, log)
    serve = partial(
        server.serve,
        render=with_request_id(render),
        report=incidents.report,
        shutdown=shutdown,
        draining=draining if listeners.handed_over else None,
        limits=Limits(
            connections=settings.max_connections,
            send_seconds=settings.send_timeout_seconds,
            graceful_seconds=GRACEFUL_SECONDS,
        ),
    )
    async with trio.open_nursery() as background:
        background.start_soon(incidents.run)
        async with trio.open_nursery() as nursery:
            for section, sockets in sections(app, settings, listeners, ring, incidents.report):
                front = Front(section, dialects.render, on_reply=replied, name_route=names)
                await nursery.start(serve, front, sockets)
            task_status.started()
        background.cancel_scope.cancel()


def _replying(settings: Server) -> Settings:
    return Settings(
        max_body_bytes=settings.max_body_bytes,
        heartbeat_seconds=settings.heartbeat_seconds,
        hold_status_seconds=settings.hold_status_seconds,
        strict_fields=settings.strict_fields,
    )


def _note_reply(observer: Observer, log: FilteringBoundLogger, reply: Replied) -> None:
    observer.replied(reply)
    # Those with a turn have a line of their own.
    if not reply.turn:
        refused = (reply.status or 500) >= 400
        tell = log.info if refused else log.debug
        tell("request refused" if refused else "request", **msgspec.structs.asdict(reply))


def _showing_tools(catalog: Catalog) -> list[str]:
    # Tools are shown as thinking.
    return [name for name, profile in catalog.profiles.items() if profile.show_tools]
