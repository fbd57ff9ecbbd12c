"""Errors and refusals of the Messages API, as Anthropic's SDK tells them."""

from typing import Any

import anthropic
import httpx
import pytest

from tests.end_to_end.messaging import CHAT, ask
from tests.end_to_end.running import DaemonProcess, directive


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.InternalServerError, "api_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_upstream_errors(
    claude: anthropic.Anthropic,
    status: int,
    error: type[anthropic.APIStatusError],
    kind: str,
    streamed: bool,
) -> None:
    with pytest.raises(error) as caught:
        claude.messages.create(
            model=CHAT, max_tokens=9, messages=ask(directive(error=status)), stream=streamed
        )
    assert caught.value.type == kind
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]


def test_an_error_in_the_middle_of_a_stream(claude: anthropic.Anthropic) -> None:
    prompt = directive(words=50, error={"status": 529, "after": 5})
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        claude.messages.stream(model=CHAT, max_tokens=999, messages=ask(prompt)) as stream,
    ):
        list(stream.text_stream)
    assert caught.value.type in ("overloaded_error", "api_error")


def test_errors_before_any_routing_are_in_the_dialect_of_the_path(
    shared_daemon: DaemonProcess,
) -> None:
    body = {"model": CHAT, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    with httpx.Client(base_url=shared_daemon.base_url) as web:
        refusals = {
            (path, kind): web.request(method, path, headers=headers, **content)
            for path in ("/v1/messages", "/v1/chat/completions")
            for kind, method, headers, content in (
                ("origin", "POST", {"origin": "http://evil.example"}, {"json": body}),
                ("host", "POST", {"host": "evil.example"}, {"json": body}),
                ("type", "POST", {"content-type": "text/plain"}, {"content": b"{}"}),
                ("query", "POST", {}, {"json": body, "params": {"api_key": "k"}}),
                ("method", "GET", {}, {}),
                ("body", "POST", {}, {"json": {}}),
            )
        }
        unknown = web.get("/v1/messages/batches")
        models = web.get("/v1/models/nope", headers={"anthropic-version": "2023-06-01"})
        ours = web.get("/v1/models/nope")
    statuses = {"origin": 403, "host": 403, "type": 415, "query": 400, "method": 405, "body": 400}
    for (path, kind), reply in refusals.items():
        found = reply.json()
        assert reply.status_code == statuses[kind]
        assert reply.headers["x-request-id"]
        if path == "/v1/messages":
            assert found["type"] == "error"
            assert found["request_id"] == reply.headers["request-id"]
            assert found["request_id"] == reply.headers["x-request-id"]
            assert set(found["error"]) <= {"type", "message", "details"}
        else:
            assert set(found["error"]) == {"message", "type", "param", "code"}
            assert "request-id" not in reply.headers
    assert unknown.json()["error"]["type"] == "not_found_error"
    assert models.json()["error"]["type"] == "not_found_error"
    assert ours.json()["error"]["code"] == "model_not_found"


def test_refusals_name_what_is_wrong(claude: anthropic.Anthropic) -> None:
    hosted: Any = {"type": "code_execution_20250825", "name": "code_execution"}
    with pytest.raises(anthropic.BadRequestError, match="code_execution_20250825"):
        claude.messages.create(model=CHAT, max_tokens=9, messages=ask("x"), tools=[hosted])
    with pytest.raises(anthropic.BadRequestError, match="tool_use"):
        claude.messages.create(
            model=CHAT,
            max_tokens=9,
            messages=[
                {"role": "user", "content": "x"},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
                },
                {"role": "user", "content": "y"},
            ],
        )
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="gpt-4o", max_tokens=9, messages=ask("x"))
    assert caught.value.type == "not_found_error"
