"""Faults in OpenAI's shape."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.http.openai_errors import envelope, render
from maxd.workers.faults import (
    BackendUnavailable,
    BadRequest,
    ContextTooLong,
    Fault,
    Forbidden,
    ModelNotFound,
    Overloaded,
    ProtocolBroken,
    RateLimited,
    TooLarge,
    UpstreamFault,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
    UsageLimit,
    UseRefused,
    WorkerDied,
    WorkerStartFailed,
)

INVALID, LIMIT, SERVER = "invalid_request_error", "rate_limit_error", "server_error"


@pytest.mark.parametrize(
    ("fault", "status", "kind", "code", "retry_after", "should_retry"),
    [
        (BadRequest("m", param="n"), 400, INVALID, None, None, "false"),
        (ContextTooLong("m"), 400, INVALID, "context_length_exceeded", None, "false"),
        (ModelNotFound("m"), 404, INVALID, "model_not_found", None, "false"),
        (BadRequest("m", status=404, code="x"), 404, INVALID, "x", None, "false"),
        (BadRequest("m", status=408), 408, INVALID, None, None, "false"),
        (Forbidden("m"), 403, "permission_error", "forbidden", None, "false"),
        (TooLarge("m"), 413, INVALID, "request_too_large", None, "false"),
        (UsageLimit("m", retry_after=3600), 429, LIMIT, "rate_limit_exceeded", "3600", "false"),
        (UsageLimit("m", retry_after=30), 429, LIMIT, "rate_limit_exceeded", "30", None),
        (RateLimited("m"), 429, LIMIT, "rate_limit_exceeded", "10", None),
        (Overloaded("m"), 503, SERVER, "overloaded", "5", None),
        (UpstreamOverloaded("m"), 503, SERVER, "overloaded", "10", None),
        (BackendUnavailable("m"), 503, SERVER, "backend_unavailable", "30", "false"),
        (WorkerStartFailed("m"), 503, SERVER, "backend_unavailable", "30", "false"),
        (WorkerDied("m"), 502, SERVER, "worker_died", None, None),
        (ProtocolBroken("m"), 502, SERVER, "worker_protocol", None, None),
        (UpstreamFault("m"), 502, SERVER, "upstream_error", None, None),
        (UpstreamRefused("m", status=422), 422, INVALID, "upstream_refused", None, "false"),
        (UseRefused("m"), 403, "permission_error", "use_refused", None, "false"),
        (UpstreamUnreachable("m"), 502, SERVER, "upstream_unreachable", "5", None),
        (UpstreamTimeout("m"), 504, SERVER, "upstream_timeout", None, None),
        (Fault("m"), 500, SERVER, None, None, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fault) else "",
)  # fmt: skip
def test_each_fault_has_its_status_type_code_and_headers(
    fault: Fault,
    status: int,
    kind: str,
    code: str | None,
    retry_after: str | None,
    should_retry: str | None,
) -> None:
    rendered, headers, body = render(fault)
    assert rendered == status
    assert json.loads(body) == {
        "error": {"message": "m", "type": kind, "param": fault.param, "code": code}
    }
    named = {name.decode(): value.decode() for name, value in headers}
    assert named.get("retry-after") == retry_after
    assert named.get("x-should-retry") == should_retry
    assert named["content-type"] == "application/json"
    assert len(named) == len(headers)


@pytest.mark.parametrize(
    ("seconds", "told", "should_retry"),
    [
        (0.0, b"1", None),
        (-5.0, b"1", None),
        (0.001, b"1", None),
        (1.0, b"1", None),
        (1.01, b"2", None),
        (59.9, b"60", None),
        (60.0, b"60", None),
        (60.5, b"61", b"false"),
        (86_400.0, b"86400", b"false"),
    ],
)
def test_retry_after_is_in_whole_seconds_and_never_too_early(
    seconds: float, told: bytes, should_retry: bytes | None
) -> None:
    _, headers, _ = render(RateLimited("m", retry_after=seconds))
    assert dict(headers)[b"retry-after"] == told
    assert dict(headers).get(b"x-should-retry") == should_retry


def test_the_status_of_a_single_fault_counts() -> None:
    status, _, body = render(UpstreamRefused("m", status=402))
    assert status == 402
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.none() | st.just("a\nb"))
def test_the_body_is_one_line_with_all_four_keys(message: str, param: str | None) -> None:
    fault = BadRequest(message, param=param)
    body = envelope(fault)
    assert b"\n" not in body
    assert b"\r" not in body
    assert render(fault)[2] == body
    assert json.loads(body)["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": None,
    }
