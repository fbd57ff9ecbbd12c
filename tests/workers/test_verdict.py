"""What a failed turn means to the client."""

import pytest

from maxd.workers import faults
from maxd.workers.messages import Result
from maxd.workers.turn import AccountLimit
from maxd.workers.verdict import fault_of

NOW = 1_000_000.0
REJECTED = AccountLimit("rejected", "five_hour", None, NOW + 90)
WORDS = "API Error: CANARY"


@pytest.mark.parametrize(
    ("result", "limit", "kind", "status", "code", "retry_after", "retry"),
    [
        (Result(True, api_error_status=400), None,
         faults.UpstreamFault, 400, "upstream_400", None, True),
        (Result(True, api_error_status=401), None,
         faults.BackendUnavailable, 503, "backend_unavailable", 30, False),
        (Result(True, api_error_status=403), None,
         faults.UpstreamFault, 403, "upstream_403", None, True),
        (Result(True, api_error_status=404), None,
         faults.ModelNotFound, 404, "model_not_found", None, False),
        (Result(True, api_error_status=413), None,
         faults.TooLarge, 413, "request_too_large", None, False),
        (Result(True, api_error_status=429), None,
         faults.RateLimited, 429, "rate_limit_exceeded", 10, True),
        (Result(True, api_error_status=429), AccountLimit("allowed_warning", resets_at=NOW + 9),
         faults.RateLimited, 429, "rate_limit_exceeded", 10, True),
        (Result(True, api_error_status=429), REJECTED,
         faults.UsageLimit, 429, "rate_limit_exceeded", 90, False),
        (Result(True, api_error_status=429), AccountLimit("rejected", resets_at=NOW - 5),
         faults.UsageLimit, 429, "rate_limit_exceeded", 1, False),
        (Result(True, api_error_status=429), AccountLimit("rejected"),
         faults.UsageLimit, 429, "rate_limit_exceeded", None, False),
        (Result(True, api_error_status=529), None,
         faults.UpstreamOverloaded, 503, "overloaded", 10, True),
        (Result(True, api_error_status=500), REJECTED,
         faults.UpstreamFault, 502, "upstream_error", None, True),
        (Result(True, api_error_status=503), None,
         faults.UpstreamFault, 502, "upstream_error", None, True),
        (Result(True, api_error_status=418), None,
         faults.UpstreamFault, 502, "upstream_error", None, True),
        (Result(True, result="Prompt is too long"), None,
         faults.ContextTooLong, 400, "context_length_exceeded", None, False),
        (Result(True, terminal_reason="prompt_too_long"), None,
         faults.ContextTooLong, 400, "context_length_exceeded", None, False),
        (Result(True, api_error_status=400, result="prompt is too long: 9 tokens > 5 maximum"),
         None, faults.ContextTooLong, 400, "context_length_exceeded", None, False),
        (Result(True, result="Not logged in · Please run /login"), None,
         faults.BackendUnavailable, 503, "backend_unavailable", 30, False),
        (Result(True, result="Invalid API key · Please run /login"), None,
         faults.BackendUnavailable, 503, "backend_unavailable", 30, False),
        (Result(True, terminal_reason="api_error"), None,
         faults.UpstreamFault, 502, "upstream_error", None, True),
        (Result(True, subtype="error_during_execution"), None,
         faults.WorkerDied, 502, "worker_died", None, True),
        (Result(True, subtype="error_max_turns", result=None), REJECTED,
         faults.WorkerDied, 502, "worker_died", None, True),
    ],
)  # fmt: skip
def test_each_failure_has_its_fault(
    result: Result,
    limit: AccountLimit | None,
    kind: type[faults.Fault],
    status: int,
    code: str,
    retry_after: float | None,
    retry: bool,
) -> None:
    fault = fault_of(result, limit, NOW)
    assert type(fault) is kind
    assert (fault.status, fault.code, fault.retry_after) == (status, code, retry_after)
    assert fault.retry is retry


@pytest.mark.parametrize("status", [None, *range(400, 420), 429, 500, 502, 503, 504, 529, 599, 0])
@pytest.mark.parametrize("words", [None, "", WORDS, f"{WORDS} · Please run /login"])
def test_the_clis_own_words_go_no_further(status: int | None, words: str | None) -> None:
    """Some clients lock themselves out for minutes on such words inside of a stream."""
    fault = fault_of(Result(True, api_error_status=status, result=words), REJECTED, NOW)
    assert fault.message
    for word in ("canary", "401", "402", "403", "quota", "billing", "expired"):
        assert word not in fault.message.lower()
