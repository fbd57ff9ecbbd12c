"""What a failed turn means to the client."""

import pytest

from maxd.workers import faults
from maxd.workers.messages import Result
from maxd.workers.turn import AccountLimit, UsageWindow
from maxd.workers.verdict import fault_of, given_up

NOW = 1_000_000.0
REJECTED = AccountLimit("rejected", "five_hour", None, NOW + 90)
WORDS = "API Error: CANARY"


@pytest.mark.parametrize(
    ("result", "limit", "kind", "status", "code", "retry_after", "retry"),
    [
        (Result(True, api_error_status=400), None,
         faults.UpstreamRefused, 400, "upstream_refused", None, False),
        (Result(True, api_error_status=400, result="API Error: 400 This credential is only "
                "authorized for use with Claude Code"), None,
         faults.UseRefused, 403, "use_refused", None, False),
        (Result(True, api_error_status=400, result="Third-party apps now draw from your extra"),
         None, faults.UseRefused, 403, "use_refused", None, False),
        (Result(True, api_error_status=401), None,
         faults.BackendUnavailable, 503, "backend_unavailable", 30, False),
        (Result(True, api_error_status=402), None,
         faults.UpstreamRefused, 402, "upstream_refused", None, False),
        (Result(True, api_error_status=403), None,
         faults.UseRefused, 403, "use_refused", None, False),
        (Result(True, api_error_status=404), None,
         faults.ModelNotFound, 404, "model_not_found", None, False),
        (Result(True, api_error_status=413), None,
         faults.TooLarge, 413, "request_too_large", None, False),
        (Result(True, api_error_status=418), None,
         faults.UpstreamRefused, 418, "upstream_refused", None, False),
        (Result(True, api_error_status=429), None,
         faults.RateLimited, 429, "rate_limit_exceeded", 10, True),
        (Result(True, api_error_status=429), AccountLimit("allowed_warning", resets_at=NOW + 9),
         faults.RateLimited, 429, "rate_limit_exceeded", 10, True),
        (Result(True, api_error_status=429), REJECTED,
         faults.UsageLimit, 429, "rate_limit_exceeded", 90, True),
        (Result(True, api_error_status=429),
         AccountLimit("rejected", "five_hour", None, NOW + 90, uses_overage=True),
         faults.UsageLimit, 429, "rate_limit_exceeded", 90, True),
        (Result(True, api_error_status=429), AccountLimit("rejected", resets_at=NOW - 5),
         faults.UsageLimit, 429, "rate_limit_exceeded", 60, True),
        (Result(True, api_error_status=429), AccountLimit("rejected", "seven_day"),
         faults.UsageLimit, 429, "rate_limit_exceeded", 60, True),
        # A short rate limit of a login that has windows: 2.1.197 and 2.1.330 say no more than
        # this where no header told of a window, and 2.1.330 tells the named one itself is open.
        (Result(True, api_error_status=429), AccountLimit("rejected"),
         faults.RateLimited, 429, "rate_limit_exceeded", 10, True),
        (Result(True, api_error_status=429),
         AccountLimit("rejected", "five_hour", None, NOW + 90,
                      windows=(UsageWindow("five_hour", "allowed", 0.25, NOW + 90),)),
         faults.RateLimited, 429, "rate_limit_exceeded", 10, True),
        (Result(True, api_error_status=504), None,
         faults.UpstreamTimeout, 504, "upstream_timeout", None, True),
        (Result(True, api_error_status=529), None,
         faults.UpstreamOverloaded, 503, "overloaded", 10, True),
        (Result(True, api_error_status=500), REJECTED,
         faults.UpstreamFault, 502, "upstream_error", None, True),
        (Result(True, api_error_status=503), None,
         faults.UpstreamFault, 502, "upstream_error", None, True),
        (Result(True, result="Prompt is too long"), None,
         faults.ContextTooLong, 400, "context_length_exceeded", None, False),
        (Result(True, terminal_reason="blocking_limit", result="Prompt is too long"), None,
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
         faults.UpstreamUnreachable, 502, "upstream_unreachable", 5, True),
        (Result(True, result="API Error: Connection dropped"), None,
         faults.UpstreamUnreachable, 502, "upstream_unreachable", 5, True),
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
        assert word not in f"{fault.message} {fault.code}".lower()


@pytest.mark.parametrize(
    ("words", "figures"),
    [
        ("prompt is too long: 210000 tokens > 200000 maximum", "210000 tokens > 200000 maximum"),
        ("Prompt is too long · the request is ~210000 tokens (limit 200000) but this conversation "
         "is only ~283 tokens", "210000 tokens > 200000 maximum"),
        ("Prompt is too long: 1,210,000 tokens > 1,000,000 maximum",
         "1210000 tokens > 1000000 maximum"),
        ("Prompt is too long", "the conversation does not fit the model's context window"),
    ],
)  # fmt: skip
def test_a_conversation_that_is_too_long_is_told_with_its_figures(words: str, figures: str) -> None:
    result = Result(True, terminal_reason="prompt_too_long", api_error_status=400, result=words)
    assert fault_of(result, None, NOW).message == f"prompt is too long: {figures}"


@pytest.mark.parametrize(
    ("result", "last_stop", "reason"),
    [
        (Result(True, stop_reason="refusal"), "refusal", "refusal"),
        # The message came in whole blocks, and those do not say why it ended.
        (Result(True, stop_reason="refusal"), "end_turn", "refusal"),
        (Result(True, stop_reason="stop_sequence"), "max_tokens", "max_tokens"),
        (Result(True, stop_reason="stop_sequence"), "model_context_window_exceeded",
         "model_context_window_exceeded"),
        (Result(True, stop_reason="stop_sequence"), "end_turn", None),
        (Result(True, stop_reason="stop_sequence"), "tool_use", None),
        (Result(True, stop_reason="stop_sequence"), None, None),
        (Result(True, stop_reason="refusal"), None, None),
        (Result(True, api_error_status=529), "max_tokens", None),
    ],
)  # fmt: skip
def test_an_answer_that_is_cut_short_or_refused_is_an_end(
    result: Result, last_stop: str | None, reason: str | None
) -> None:
    assert given_up(result, last_stop) == reason
