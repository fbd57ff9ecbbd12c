"""Each refusal on each route there is: the routes come from the app, so new ones are covered."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
import trio

from maxd.daemon.catalog import Catalog
from maxd.daemon.conversations import Conversations
from maxd.daemon.keys import ApiKey, KeyRing, hash_of
from maxd.daemon.quotas import Quotas
from maxd.daemon.settings import Server
from maxd.daemon.turns import Turns
from maxd.http.app import Service, make_app
from maxd.http.credentials import DASHBOARD, OPEN_PATHS
from maxd.http.listeners import open_listeners
from maxd.http.quota_headers import Meter
from maxd.http.replying import Settings
from maxd.http.sections import is_operators
from maxd.http.serving import serve_http
from maxd.http.status_pages import PAGES
from maxd.workers.profiles import BUILT_IN
from tests.daemon.stand_ins import AskedPool, logger
from tests.http.mutations import HOST, JSON

if TYPE_CHECKING:
    from maxd.daemon.overview import Overview

KEY = b"maxd-right"
NO_KEYS = KeyRing({})
KEYS = KeyRing({"laptop": ApiKey(hash=hash_of(KEY))})
BODY = b"Content-Length: 2\r\n\r\n{}"
END = b"\r\n"


def make_turns() -> Turns:
    log, _ = logger()
    return Turns(AskedPool().as_pool, BUILT_IN, Conversations(), log)


def routes() -> Iterator[tuple[str, str]]:
    """Method and path of all routes; a part that varies becomes `x`."""
    catalog = Catalog({})
    service = Service(
        turns=make_turns(),
        find_model=catalog.find,
        offered_models=catalog.offered,
        searches=lambda profile: True,
        replies=None,
        # Only asked for when a page of it is.
        overview=cast("Overview", object()),
        version="0",
        meter=Meter(NO_KEYS, Quotas()),
    )
    settings = Settings(max_body_bytes=1024, heartbeat_seconds=1, hold_status_seconds=1)
    app = make_app(service, settings)
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", "x").replace(f"<path:{argument}>", "x")
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, path


ROUTES = sorted(set(routes()))
POSTS = [route for route in ROUTES if route[0] == "POST"]
CLOSED = [route for route in ROUTES if route[1] not in OPEN_PATHS]
IDS = [" ".join(route) for route in ROUTES]


@asynccontextmanager
async def site(ring: KeyRing, **settings: str) -> AsyncIterator[int]:
    """The whole front on a free port."""
    log, _ = logger()
    listeners = open_listeners(Server(port=0, **settings), {})  # type: ignore[arg-type]
    port = listeners.main[0].getsockname()[1]
    shutdown = trio.Event()
    serve = partial(
        serve_http, Server(), listeners, "0", log, ring, Quotas(), make_turns(), Catalog({})
    )
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, trio.Event(), shutdown)
            yield port
            shutdown.set()
    listeners.close()


async def exchange(port: int, data: bytes) -> tuple[int, bytes]:
    """The status and the header of the reply to `data`."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        return await talk(stream, data)


async def talk(stream: trio.SocketStream, data: bytes) -> tuple[int, bytes]:
    # Not a half-closed connection: a client that goes away gets no answer.
    await stream.send_all(data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    reply = b""
    async for part in stream:
        reply += part
    head = reply.partition(b"\r\n\r\n")[0].lower()
    return int(head.split()[1]), head


def request(method: str, path: str, headers: bytes) -> bytes:
    body = JSON + BODY if method in ("POST", "PUT", "PATCH") else END
    return f"{method} {path} HTTP/1.1\r\n".encode() + headers + body


HEADERS = {
    "foreign host": (403, b"Host: evil.example\r\n"),
    "rebound host": (403, b"Host: localhost.evil.example\r\n"),
    "empty host": (400, b"Host: \r\n"),
    "no host": (400, b""),
    "two hosts": (400, HOST + HOST),
    "page": (403, HOST + b"Origin: https://evil.example\r\n"),
    "file": (403, HOST + b"Origin: null\r\n"),
    "link": (403, HOST + b"Sec-Fetch-Site: cross-site\r\n"),
    "websocket": (
        400,
        HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\n",
    ),
    "te and cl": (400, HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n"),
}
WRONG_KEYS = {
    "none": b"",
    "wrong": b"Authorization: Bearer maxd-wrong\r\n",
    "empty": b"Authorization: Bearer \r\n",
    "not ASCII": b"Authorization: Bearer maxd-\xe9\r\n",
    "doubled": (b"Authorization: Bearer " + KEY + b"\r\n") * 2,
    "other header": b"x-api-key: maxd-wrong\r\n",
    "basic": b"Authorization: Basic " + KEY + b"\r\n",
}


def test_there_are_routes() -> None:
    assert ("POST", "/chat/completions") in ROUTES
    assert ("GET", "/health") in ROUTES


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=IDS)
async def test_headers_that_are_refused(method: str, path: str) -> None:
    async with site(NO_KEYS) as port:
        for name, (status, headers) in HEADERS.items():
            for spelling in (path, f"/v1{path}", f"//v1/{path}/"):
                found, head = await exchange(port, request(method, spelling, headers))
                assert found == status, name
                assert b"access-control" not in head
        for target in ("http://evil.example", "ftp://localhost", "http://localhost@evil.example"):
            found, _ = await exchange(port, request(method, target + path, HOST))
            assert found == 400
        for query in ("token=a", "api_key=a", "key=a", "a=b&access_token=c", "%74oken=a"):
            found, _ = await exchange(port, request(method, f"{path}?{query}", HOST))
            assert found == 400


@pytest.mark.parametrize(("method", "path"), POSTS, ids=[path for _, path in POSTS])
async def test_bodies_that_are_refused(method: str, path: str) -> None:
    start = f"{method} {path} HTTP/1.1\r\n".encode() + HOST
    async with site(NO_KEYS) as port:
        for kind in (b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data"):
            found, _ = await exchange(port, start + b"Content-Type: " + kind + b"\r\n" + BODY)
            assert found == 415
        found, _ = await exchange(port, start + BODY)
        assert found == 415
        huge = b"Content-Length: 99999999999\r\n\r\n"
        assert (await exchange(port, start + JSON + huge))[0] == 413
        chunks = b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
        assert (await exchange(port, start + JSON + chunks))[0] == 400
        for body in (b"", b"{", b"[]", b"\xff", b"[" * 1000, b'{"model":7}', b'{"a":' * 500):
            sized = b"Content-Length: %d\r\n\r\n" % len(body) + body
            # One that takes no body says first that there is no such thing.
            assert (await exchange(port, start + JSON + sized))[0] in (400, 404)


@pytest.mark.parametrize(("method", "path"), CLOSED, ids=[" ".join(route) for route in CLOSED])
async def test_without_the_key_there_is_nothing_to_be_had(method: str, path: str) -> None:
    async with site(KEYS) as port:
        for name, header in WRONG_KEYS.items():
            found, head = await exchange(port, request(method, path, HOST + header))
            assert found == 401, name
            assert b"www-authenticate: bearer" in head
        for right in (b"Authorization: Bearer " + KEY, b"x-api-key: " + KEY):
            # Node's fetch says the last, and no Origin.
            headers = HOST + right + b"\r\nsec-fetch-mode: cors\r\n"
            found, _ = await exchange(port, request(method, path, headers))
            assert found not in (401, 403)


def test_the_whole_dashboard_is_open_and_the_operators() -> None:
    assert set(PAGES) == DASHBOARD < OPEN_PATHS
    for path in (*PAGES, "/status", "/status/stream", "/metrics"):
        assert is_operators(path)
    for path in ("/models", "/dashboard", "/dashboard.jsx", "/statuses", "/health", "/ready"):
        assert not is_operators(path)


async def test_health_is_open_and_unknown_paths_are_not() -> None:
    async with site(KEYS) as port:
        assert (await exchange(port, request("GET", "/health", HOST)))[0] == 200
        assert (await exchange(port, request("GET", "/nothing", HOST)))[0] == 401
        assert (await exchange(port, request("BREW", "/models", HOST)))[0] == 401


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=IDS)
async def test_the_operators_pages_can_have_a_socket_of_their_own(
    method: str, path: str, tmp_path: object
) -> None:
    admin = f"{tmp_path}/admin.sock"
    async with site(KEYS, admin_socket=admin) as port:
        key = b"x-api-key: " + KEY + b"\r\n"
        here, head = await exchange(port, request(method, path, HOST + key))
        assert (here == 404 and b"nothing" not in head) or not is_operators(path)
        async with await trio.open_unix_socket(admin) as stream:
            there, _ = await talk(stream, request(method, path, HOST))
        if not is_operators(path) and path not in ("/health", "/ready"):
            assert there == 404
        else:
            assert there != 401
