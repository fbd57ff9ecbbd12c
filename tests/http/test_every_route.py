"""Each refusal of a header on each route there is: the routes come from the app, so new ones are
covered. What is refused of bodies: see test_every_body.py."""

import pytest
import trio

from maxd.daemon.keys import ApiKey, KeyRing, hash_of
from maxd.http.credentials import DASHBOARD, OPEN_PATHS
from maxd.http.sections import EVERYWHERE, is_operators
from maxd.http.status_pages import PAGES
from tests.http.mutations import HOST
from tests.http.whole_front import ROUTES, Reply, exchange, request, site, talk

KEY = b"maxd-right"
KEYS = KeyRing({"laptop": ApiKey(hash=hash_of(KEY))})


CLOSED = [route for route in ROUTES if route[1] not in OPEN_PATHS]
IDS = [" ".join(route) for route in ROUTES]

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


def assert_served(method: str, path: str, reply: Reply) -> None:
    """Whether the request came through to the route: it answers, or says what is wrong with `{}`
    as a body or that there is nothing that is called x."""
    assert b'"unknown_url"' not in reply.body
    if method == "POST" and "x" not in path.split("/"):
        assert reply.status == 400
    else:
        assert reply.status == (404 if "x" in path.split("/") else 200)


def test_there_are_routes() -> None:
    paths = {path for _, path in ROUTES}
    assert {"/chat/completions", "/messages", "/responses", "/health", "/models"} <= paths
    assert {*PAGES, "/status", "/status/stream", "/metrics", "/ready"} <= paths


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=IDS)
async def test_headers_that_are_refused(method: str, path: str) -> None:
    async with site() as port:
        for spelling in (path, f"/v1{path}", f"//v1/{path}/"):
            reply = await exchange(port, request(method, spelling))
            assert_served(method, path, reply)
            assert b"access-control" not in reply.head
            for name, (status, headers) in HEADERS.items():
                reply = await exchange(port, request(method, spelling, headers))
                assert reply.status == status, name
                assert b"access-control" not in reply.head
        for target in ("http://evil.example", "ftp://localhost", "http://localhost@evil.example"):
            assert (await exchange(port, request(method, target + path))).status == 400
        for query in ("token=a", "api_key=a", "key=a", "a=b&access_token=c", "%74oken=a"):
            assert (await exchange(port, request(method, f"{path}?{query}"))).status == 400


@pytest.mark.parametrize("path", sorted({path for _, path in ROUTES}))
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "BREW", "PUT"])
async def test_headers_that_are_refused_whatever_the_method(method: str, path: str) -> None:
    """A page asks with OPTIONS first, and must not be told that it may."""
    async with site() as port:
        asks = b"Access-Control-Request-Method: POST\r\n"
        reply = await exchange(port, request(method, path, HOST + asks))
        assert b"access-control" not in reply.head
        for name, (status, headers) in HEADERS.items():
            reply = await exchange(port, request(method, path, headers + asks))
            assert reply.status == status, name
            assert b"access-control" not in reply.head


@pytest.mark.parametrize(("method", "path"), CLOSED, ids=[" ".join(route) for route in CLOSED])
async def test_without_the_key_there_is_nothing_to_be_had(method: str, path: str) -> None:
    async with site(KEYS) as port:
        for name, header in WRONG_KEYS.items():
            reply = await exchange(port, request(method, path, HOST + header))
            assert reply.status == 401, name
            assert b"www-authenticate: bearer" in reply.head
        for right in (b"Authorization: Bearer " + KEY, b"x-api-key: " + KEY):
            # Node's fetch says the last, and no Origin.
            headers = HOST + right + b"\r\nsec-fetch-mode: cors\r\n"
            assert_served(method, path, await exchange(port, request(method, path, headers)))


def test_the_whole_dashboard_is_open_and_the_operators() -> None:
    assert set(PAGES) == DASHBOARD == OPEN_PATHS - {"/health"}
    for path in (*PAGES, "/status", "/status/stream", "/metrics"):
        assert is_operators(path)
    for path in ("/models", "/dashboard", "/dashboard.jsx", "/statuses", "/health", "/ready"):
        assert not is_operators(path)


async def test_what_is_open_is_answered_and_unknown_paths_are_not() -> None:
    async with site(KEYS) as port:
        for path in OPEN_PATHS:
            assert (await exchange(port, request("GET", path))).status == 200
        assert (await exchange(port, request("GET", "/nothing"))).status == 401
        assert (await exchange(port, request("BREW", "/models"))).status == 401


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=IDS)
async def test_the_operators_pages_can_have_a_socket_of_their_own(
    method: str, path: str, tmp_path: object
) -> None:
    admin = f"{tmp_path}/admin.sock"
    async with site(KEYS, admin_socket=admin) as port:
        key = b"x-api-key: " + KEY + b"\r\n"
        here = await exchange(port, request(method, path, HOST + key))
        async with await trio.open_unix_socket(admin) as stream:
            # Who can open it needs no key.
            there = await talk(stream, request(method, path))
    if path in EVERYWHERE:
        assert_served(method, path, here)
        assert_served(method, path, there)
        return
    served, missing = (there, here) if is_operators(path) else (here, there)
    assert_served(method, path, served)
    assert (missing.status, b'"unknown_url"' in missing.body) == (404, True)
