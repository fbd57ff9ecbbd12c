"""The front put together: routes, guard and server on listening sockets."""

import socket
from functools import partial
from typing import Any, cast

import msgspec
import trio
from hypercorn.typing import ASGIFramework, Scope
from structlog.typing import FilteringBoundLogger

from maxd.daemon.catalog import Catalog
from maxd.daemon.keys import KeyRing
from maxd.daemon.observer import Replied
from maxd.daemon.overview import Overview
from maxd.daemon.quotas import Quotas
from maxd.daemon.settings import Server
from maxd.daemon.stored_replies import StoredReplies
from maxd.daemon.turns import Turns
from maxd.http import dialects, server
from maxd.http.app import Service, make_app, route_names
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
from maxd.workers.profiles import BUILT_IN

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
        searches=lambda profile: BUILT_IN[profile].tools == "all",
        replies=replies,
        version=version,
        meter=Meter(ring, quotas),
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
        log.warning("incident", **msgspec.structs.asdict(incident))

    def replied(reply: Replied) -> None:
        if overview is not None:
            overview.observer.replied(reply)
        # Those with a turn have a line of their own.
        if not reply.turn:
            refused = (reply.status or 500) >= 400
            tell = log.info if refused else log.debug
            tell("request refused" if refused else "request", **msgspec.structs.asdict(reply))

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
        section: ASGIFramework, sockets: list[socket.socket], *, task_status: trio.TaskStatus[None]
    ) -> None:
        await server.serve(
            Front(section, dialects.render, on_reply=replied, name_route=names),
            sockets,
            render=with_request_id(render),
            report=report,
            shutdown=shutdown,
            draining=draining if listeners.handed_over else None,
            limits=limits,
            task_status=task_status,
        )

    names = route_names(app)
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


def _showing_tools(catalog: Catalog) -> list[str]:
    return [name for name, profile in catalog.profiles.items() if profile.show_tools]
