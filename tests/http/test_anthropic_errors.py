"""Faults in Anthropic's shape, and which requests get them."""

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from maxd.http.anthropic_errors import render
from maxd.http.dialects import render as render_in
from maxd.http.dialects import speaks_anthropic
from maxd.workers.faults import (
    BackendUnavailable,
    BadRequest,
    ContextTooLong,
    ConversationBusy,
    ConversationGone,
    Fault,
    Forbidden,
    ModelNotFound,
    Overloaded,
    RateLimited,
    TooLarge,
    UpstreamFault,
    UpstreamOverloaded,
    UsageLimit,
    WorkerDied,
    WorkerStartFailed,
)

if TYPE_CHECKING:
    from hypercorn.typing import Scope

INVALID, LIMIT = "invalid_request_error", "rate_limit_error"


@pytest.mark.parametrize(
    ("fault", "status", "kind", "retry_after", "should_retry"),
    [
        (BadRequest("m"), 400, INVALID, None, "false"),
        (ContextTooLong("m"), 400, INVALID, None, "false"),
        (BadRequest("m", status=401), 401, "authentication_error", None, "false"),
        (Forbidden("m"), 403, "permission_error", None, "false"),
        (UpstreamFault("m", status=403), 403, "permission_error", None, None),
        (ModelNotFound("m"), 404, "not_found_error", None, "false"),
        (ConversationGone("m"), 404, "not_found_error", None, "false"),
        (BadRequest("m", status=405), 405, INVALID, None, "false"),
        (BadRequest("m", status=408), 408, "timeout_error", None, "false"),
        (ConversationBusy("m"), 409, "conflict_error", "1", None),
        (TooLarge("m"), 413, "request_too_large", None, "false"),
        (BadRequest("m", status=415), 415, INVALID, None, "false"),
        (UsageLimit("m", retry_after=3600), 429, LIMIT, "3600", "false"),
        (RateLimited("m"), 429, LIMIT, "10", None),
        (Fault("m"), 500, "api_error", None, None),
        (WorkerDied("m"), 502, "api_error", None, None),
        (BackendUnavailable("m"), 503, "api_error", "30", "false"),
        (WorkerStartFailed("m"), 503, "api_error", "30", "false"),
        (Fault("m", status=504), 504, "timeout_error", None, None),
        (Overloaded("m"), 529, "overloaded_error", "5", None),
        (UpstreamOverloaded("m"), 529, "overloaded_error", "10", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fault) else "",
)
def test_each_fault_has_its_status_type_and_headers(
    fault: Fault, status: int, kind: str, retry_after: str | None, should_retry: str | None
) -> None:
    rendered, headers, body = render(fault, "req_1")
    assert rendered == status
    found = json.loads(body)
    assert (found["type"], found["request_id"]) == ("error", "req_1")
    assert found["error"]["type"] == kind
    assert found["error"]["message"].endswith("m")
    assert found["error"].get("details", {}).get("error_code") == fault.code
    named = {name.decode(): value.decode() for name, value in headers}
    assert named["request-id"] == "req_1"
    assert named["content-type"] == "application/json"
    assert named.get("retry-after") == retry_after
    assert named.get("x-should-retry") == should_retry
    assert len(named) == len(headers)


def test_messages_say_where_and_what() -> None:
    def message(fault: Fault) -> Any:
        return json.loads(render(fault, "r")[2])["error"]["message"]

    assert message(BadRequest("field required", param="max_tokens")) == "max_tokens: field required"
    # The words by which clients know that they must shorten the conversation.
    assert message(ContextTooLong("m", param="messages")) == "prompt is too long: m"


@pytest.mark.parametrize(
    ("path", "headers", "anthropic"),
    [
        ("/messages", [], True),
        ("/messages/count_tokens", [], True),
        ("/messages/batches", [], True),
        ("/messagesx", [], False),
        ("/", [], False),
        ("/chat/completions", [(b"x-api-key", b"k"), (b"anthropic-version", b"v")], False),
        ("/models", [], False),
        ("/models", [(b"authorization", b"Bearer x")], False),
        ("/models", [(b"anthropic-version", b"2023-06-01")], True),
        ("/models/sonnet", [(b"X-Api-Key", b"k")], True),
        ("/nothing", [(b"x-api-key", b"k")], False),
    ],
)
def test_who_speaks_what(path: str, headers: list[tuple[bytes, bytes]], anthropic: bool) -> None:
    assert speaks_anthropic(path, headers) is anthropic
    scope = {"type": "http", "path": path, "headers": headers, "state": {"request_id": "req_1"}}
    found = json.loads(render_in(Fault("m"), cast("Scope", scope))[2])
    assert (found.get("type") == "error") is anthropic
