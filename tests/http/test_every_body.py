"""Each refusal of what a request asks for, on each route that reads a body."""

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from maxd.http.app import BODIES_IN_FLIGHT
from maxd.http.body import DEADLINE
from tests.http.mutations import HOST, JSON
from tests.http.whole_front import BODY, ROUTES, Reply, exchange, hear, site, talk

POSTS = [path for method, path in ROUTES if method == "POST"]
# These take no body: they say first that there is nothing that is called x.
WITHOUT_BODY = {"/responses/x/cancel"}
# Those that read one, with the least that each takes.
LEAST: dict[str, dict[str, Any]] = {
    "/chat/completions": {"model": "sonnet:chat", "messages": [{"role": "user", "content": "hi"}]},
    "/messages": {
        "model": "sonnet:chat",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
    "/messages/count_tokens": {
        "model": "sonnet:chat",
        "messages": [{"role": "user", "content": "hi"}],
    },
    "/responses": {"model": "sonnet:chat", "input": [{"role": "user", "content": "hi"}]},
}
# These run a turn for it.
TURNS = [path for path in LEAST if path != "/messages/count_tokens"]
IMAGES: dict[str, Callable[[str], dict[str, Any]]] = {
    "/chat/completions": lambda url: {"type": "image_url", "image_url": {"url": url}},
    "/messages": lambda url: {"type": "image", "source": {"type": "url", "url": url}},
    "/messages/count_tokens": lambda url: {"type": "image", "source": {"type": "url", "url": url}},
    "/responses": lambda url: {"type": "input_image", "image_url": url},
}
TOOLS: dict[str, Callable[[str], dict[str, Any]]] = {
    "/chat/completions": lambda name: {"type": "function", "function": {"name": name}},
    "/messages": lambda name: {"name": name, "input_schema": {"type": "object"}},
    "/messages/count_tokens": lambda name: {"name": name, "input_schema": {"type": "object"}},
    "/responses": lambda name: {"type": "function", "name": name, "parameters": {}},
}
OUTSIDE = ["--dangerous", "../x", "a b", "a\nb", "a\0b", "x" * 500, "", "é", "$(id)"]
# Small enough to be filled by a test.
MOST_BYTES = 1024


def start(path: str, headers: bytes = b"") -> bytes:
    return f"POST {path} HTTP/1.1\r\n".encode() + HOST + JSON + headers


def sized(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


async def post(port: int, path: str, body: dict[str, Any], headers: bytes = b"") -> Reply:
    return await exchange(port, start(path, headers) + sized(json.dumps(body).encode()))


async def begin(port: int, path: str, length: int) -> trio.SocketStream:
    """A connection whose request has been read up to its body, which is waited for."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    announced = b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length
    told = await talk(stream, start(path) + announced)
    assert told.status == 100
    await wait_all_tasks_blocked()
    return stream


def test_every_post_is_here() -> None:
    assert set(POSTS) == set(LEAST) | WITHOUT_BODY
    assert set(IMAGES) == set(TOOLS) == set(LEAST)


@pytest.mark.parametrize("path", POSTS)
async def test_bodies_that_are_not_read(path: str) -> None:
    bare = f"POST {path} HTTP/1.1\r\n".encode() + HOST
    async with site() as port:
        for kind in (b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data"):
            typed = bare + b"Content-Type: " + kind + b"\r\n"
            assert (await exchange(port, typed + BODY)).status == 415
        assert (await exchange(port, bare + BODY)).status == 415
        huge = b"Content-Length: 99999999999\r\n\r\n"
        assert (await exchange(port, start(path) + huge)).status == 413
        chunks = b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
        assert (await exchange(port, start(path) + chunks)).status == 400


@pytest.mark.parametrize("path", POSTS)
async def test_bodies_that_are_no_request(path: str) -> None:
    expected = 404 if path in WITHOUT_BODY else 400
    async with site() as port:
        for body in (b"", b"{", b"[]", b"\xff", b"[" * 1000, b'{"model":7}', b'{"a":' * 500):
            assert (await exchange(port, start(path) + sized(body))).status == expected


@pytest.mark.parametrize("path", LEAST)
async def test_a_body_that_grows_too_large(path: str) -> None:
    """Which its header does not tell."""
    chunk = b"%x\r\n%b\r\n" % (MOST_BYTES, b" " * MOST_BYTES)
    async with site(max_body_bytes=MOST_BYTES) as port:
        chunked = start(path) + b"Transfer-Encoding: chunked\r\n\r\n"
        assert (await exchange(port, chunked + chunk + b"0\r\n\r\n")).status == 400
        assert (await exchange(port, chunked + chunk + b"1\r\n \r\n0\r\n\r\n")).status == 413


@pytest.mark.parametrize("path", LEAST)
async def test_too_many_bodies_at_once(path: str) -> None:
    # Anthropic's API says it in a way of its own.
    overloaded = 529 if path.startswith("/messages") else 503
    async with site(max_body_bytes=MOST_BYTES) as port, AsyncExitStack() as stack:
        slow = []
        for _ in range(BODIES_IN_FLIGHT):
            slow.append(await stack.enter_async_context(await begin(port, path, MOST_BYTES)))
            await slow[-1].send_all(b" " * (MOST_BYTES - 1))
        await wait_all_tasks_blocked()
        reply = await exchange(port, start(path) + sized(b" " * MOST_BYTES))
        assert reply.status == overloaded
        assert b"retry-after: " in reply.head
        # What they hold is given back.
        for stream in slow:
            await stream.send_all(b"}")
            assert (await hear(stream)).status == 400
        assert (await exchange(port, start(path) + sized(b" " * MOST_BYTES))).status == 400


@pytest.mark.parametrize("path", LEAST)
async def test_a_body_that_does_not_come(path: str, mock_clock: MockClock) -> None:
    async with site() as port, await begin(port, path, 9) as stream:
        mock_clock.jump(DEADLINE / 2)
        await stream.send_all(b"{")
        await wait_all_tasks_blocked()
        mock_clock.jump(DEADLINE / 2)
        assert (await hear(stream)).status == 408


@pytest.mark.parametrize("path", LEAST)
async def test_models_that_are_outside_of_their_pattern(path: str) -> None:
    """They are models that do not exist: nothing of them gets anywhere."""
    async with site() as port:
        for model in (*OUTSIDE, "sonnet:--x", "sonnet:../chat", "opus[2m]"):
            reply = await post(port, path, LEAST[path] | {"model": model})
            assert reply.status == 404, model


@pytest.mark.parametrize("path", LEAST)
async def test_names_of_tools_that_are_outside_of_their_pattern(path: str) -> None:
    async with site() as port:
        # Hyphens are within it: no name of a tool is ever a word of a command.
        for name in set(OUTSIDE) - {"--dangerous"}:
            reply = await post(port, path, LEAST[path] | {"tools": [TOOLS[path](name)]})
            assert reply.status == 400, name
            assert b"tools" in reply.body


@pytest.mark.parametrize("path", LEAST)
async def test_images_that_would_have_to_be_fetched(path: str) -> None:
    messages = "input" if path == "/responses" else "messages"
    async with site() as port:
        for url in ("http://localhost/a", "https://evil.example/a", "file:///etc/passwd"):
            said = {"role": "user", "content": [IMAGES[path](url)]}
            reply = await post(port, path, LEAST[path] | {messages: [said]})
            assert reply.status == 400, url
            assert b"content[0]" in reply.body or b"content.0" in reply.body
            assert b"passwd" not in reply.body


@pytest.mark.parametrize("path", TURNS)
async def test_conversations_that_are_outside_of_their_pattern(path: str) -> None:
    async with site() as port:
        for name in OUTSIDE:
            if "\n" in name or "\0" in name:
                # No header: see the malformed requests.
                continue
            header = f"X-Conversation-Id: {name}\r\n".encode()
            assert (await post(port, path, LEAST[path], header)).status == 400, name


@pytest.mark.parametrize("path", TURNS)
async def test_headers_that_ask_for_more_rights(path: str) -> None:
    async with site() as port:
        for name in ("Tools", "Permission-Mode", "Profile", "Working-Directory"):
            header = f"X-Maxd-{name}: all\r\n".encode()
            assert (await post(port, path, LEAST[path], header)).status == 403, name
