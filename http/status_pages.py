"""The operator's pages: status, readiness, metrics, and the dashboard with its stream."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from quart import Response, request

from maxd.daemon.metrics import CONTENT_TYPE
from maxd.workers.faults import Overloaded

if TYPE_CHECKING:
    from quart_trio import QuartTrio

    from maxd.daemon.overview import Overview

STREAM_SECONDS: Final = 1.0
"""Between two pictures in the stream, each of which is a heartbeat too."""

MOST_VIEWERS: Final = 16
"""Streams at once: forgotten windows must not use up the connections of clients."""

FRESH_SECONDS: Final = 0.5
"""How long one picture serves all who look."""

PAGES: Final = {
    "/": ("dashboard.html", "text/html; charset=utf-8"),
    "/dashboard.js": ("dashboard.js", "text/javascript; charset=utf-8"),
    "/dashboard.css": ("dashboard.css", "text/css; charset=utf-8"),
    "/dashboard.svg": ("dashboard.svg", "image/svg+xml"),
}
"""The files of the dashboard by path."""

_FOLDER = Path(__file__).with_name("dashboard")
_SAFE: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Pictures:
    """The daemon's status as JSON, made once for all who look at the same time."""

    def __init__(self, overview: "Overview") -> None:
        self._overview = overview
        self._encoder = msgspec.json.Encoder()
        self._made_at = -FRESH_SECONDS
        self._made = b""
        self.viewers = 0

    def newest(self) -> bytes:
        """Not older than `FRESH_SECONDS`."""
        now = trio.current_time()
        if now - self._made_at >= FRESH_SECONDS:
            self._made, self._made_at = self._encoder.encode(self._overview.status()), now
        return self._made

    async def events(self, shutdown: trio.Event) -> AsyncIterator[bytes]:
        """Server-sent events, one picture each, until `shutdown`."""
        self.viewers += 1
        try:
            while True:
                yield b"data: " + self.newest() + b"\n\n"
                with trio.move_on_after(STREAM_SECONDS):
                    await shutdown.wait()
                if shutdown.is_set():
                    yield b"event: stopped\ndata: {}\n\n"
                    return
        finally:
            self.viewers -= 1


def add_status_pages(app: "QuartTrio", overview: "Overview", shutdown: trio.Event) -> None:
    """Add the routes. Streams end with `shutdown`, so that they hold up no end of the daemon."""
    pictures = Pictures(overview)

    @app.get("/status")
    async def status() -> Response:
        return _reply(msgspec.json.encode(overview.status()), "application/json")

    @app.get("/ready")
    async def ready() -> Response:
        if (fault := overview.fault) is not None:
            raise fault
        return _reply(b'{"status":"ready"}', "application/json")

    @app.get("/metrics")
    async def metrics() -> Response:
        return _reply(overview.metrics(), CONTENT_TYPE)

    @app.get("/status/stream")
    async def stream() -> Response:
        if request.method == "HEAD":
            # The stream would never end for want of a body, and count as a viewer all the while.
            return _reply(b"", "text/event-stream")
        if pictures.viewers >= MOST_VIEWERS:
            raise Overloaded(f"{MOST_VIEWERS} others are watching already; use GET /status")
        response = Response(pictures.events(shutdown), content_type="text/event-stream")
        response.headers.update(_SAFE)
        response.headers["cache-control"] = "no-store"
        # nginx buffers event streams unless told not to.
        response.headers["x-accel-buffering"] = "no"
        response.timeout = None
        return response

    for path, (name, content_type) in PAGES.items():
        _add_file(app, path, (_FOLDER / name).read_bytes(), content_type)


def _add_file(app: "QuartTrio", path: str, content: bytes, content_type: str) -> None:
    async def file() -> Response:
        return _reply(content, content_type, cache="no-cache")

    app.add_url_rule(path, f"dashboard {path}", file, methods=["GET"])


def _reply(body: bytes, content_type: str, *, cache: str = "no-store") -> Response:
    response = Response(body, content_type=content_type)
    response.headers.update(_SAFE)
    response.headers["cache-control"] = cache
    return response
