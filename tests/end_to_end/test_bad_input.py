"""Requests that cannot be served: refused in OpenAI's shape, with the field, and not logged."""

import json
from typing import Any

import httpx
import pytest

from tests.end_to_end.running import DaemonProcess

CANARY = "canary-e5b1"
DEEP = b'{"model":"sonnet","messages":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


def body(messages: Any, **more: Any) -> bytes:
    return json.dumps({"model": "sonnet:chat", "messages": messages, **more}).encode()


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("content", "status", "param"),
    [
        (b"", 400, None),
        (b"not json " + CANARY.encode(), 400, None),
        (b"[]", 400, None),
        (DEEP, 400, None),
        (b'{"model":"sonnet","messages":[{"role":"user","content":"\\ud800"}]}', 400, None),
        (b'{"model":"sonnet","messages":[{"role":"user","content":"\xff"}]}', 400, None),
        (b'{"messages":[{"role":"user","content":"hi"}]}', 400, "model"),
        (b'{"model":"sonnet"}', 400, "messages"),
        (body([]), 400, "messages"),
        (body("hi"), 400, "messages"),
        (body(user("hi"), stream="yes"), 400, "stream"),
        (body([{"role": CANARY, "content": "hi"}]), 400, "messages[0].role"),
        (body([{"content": "hi"}]), 400, "messages[0].role"),
        (body(user(7)), 400, "messages[0].content"),
        (body(user(f"{CANARY}\0")), 400, "messages[0].content"),
        (body(user("   ")), 400, "messages[0].content"),
        (body(user([{"type": "text", "text": "a\0"}])), 400, "messages[0].content[0]"),
        (body(user("hi"), n=2), 400, "n"),
        (body(user("hi"), tools=[{"type": "function"}]), 400, "tools[0].function"),
        (body([*user("hi"), {"role": "assistant", "content": "x"}]), 400, "messages[1].role"),
        (body(user(CANARY + "x" * 20_000_000)), 413, "messages"),
        (b" " * (33 * 1024 * 1024), 413, None),
    ],
)
def test_refused(
    shared_daemon: DaemonProcess, content: bytes, status: int, param: str | None
) -> None:
    reply = httpx.post(
        f"{shared_daemon.base_url}/v1/chat/completions",
        content=content,
        headers={"content-type": "application/json"},
        timeout=60,
    )
    assert reply.status_code == status
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    if param is not None:
        assert error["param"] == param
    assert reply.headers["x-request-id"]
    assert CANARY not in reply.text
    assert CANARY not in str(shared_daemon.log)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/nothing", {}, 404),
        ("GET", "/v1/chat/completions", {}, 405),
        ("GET", "/health", {"origin": "https://evil.example"}, 403),
        ("GET", "/health", {"host": "evil.example"}, 403),
        ("OPTIONS", "/v1/chat/completions", {"origin": "null"}, 403),
        ("POST", "/v1/chat/completions", {"content-type": "text/plain"}, 415),
    ],
)
def test_refused_before_routing(
    shared_daemon: DaemonProcess, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    reply = httpx.request(method, shared_daemon.base_url + path, headers=headers)
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"]
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_what_is_asked_is_not_logged_and_not_in_argv(shared_daemon: DaemonProcess) -> None:
    messages: list[Any] = [{"role": "system", "content": CANARY}, *user(CANARY)]
    with (
        shared_daemon.client(api_key=f"key-{CANARY}") as client,
        client.chat.completions.create(
            model="sonnet:chat", messages=messages, stream=True
        ) as stream,
    ):
        next(stream)
        processes = shared_daemon.tree()
        assert processes
        for process in processes:
            assert CANARY not in " ".join(process.cmdline())
            assert CANARY not in str(process.environ())
    assert CANARY not in str(shared_daemon.log)
