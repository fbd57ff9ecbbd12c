"""What a failed turn means: from the CLI's `result` to a fault.

The CLI's own words are read here to tell cases apart and go no further: they may quote the
conversation, and some clients lock themselves out on words like "expired" or "quota".
"""

from maxd.workers.faults import (
    BackendUnavailable,
    ContextTooLong,
    Fault,
    ModelNotFound,
    RateLimited,
    TooLarge,
    UpstreamFault,
    UpstreamOverloaded,
    UsageLimit,
    WorkerDied,
)
from maxd.workers.messages import Result
from maxd.workers.turn import AccountLimit

NOT_LOGGED_IN = "the claude CLI is not logged in; run `claude` and /login, then try again"


def fault_of(result: Result, limit: AccountLimit | None, now: float) -> Fault:
    """The fault of a `result` with `is_error`.

    `limit` is the last thing the service said of the account's window; `now` is in epoch seconds.
    """
    words = (result.result or "").lower()
    if result.terminal_reason == "prompt_too_long" or "prompt is too long" in words:
        return ContextTooLong(
            "the conversation does not fit the model's context window; shorten it",
            param="messages",
        )
    match result.api_error_status:
        case 429 if limit is not None and limit.status == "rejected":
            wait = max(1.0, limit.resets_at - now) if limit.resets_at is not None else None
            return UsageLimit("usage limit of the account reached", retry_after=wait)
        case 429:
            return RateLimited("the service asks to slow down")
        case 400:
            return UpstreamFault(
                "the service refused the conversation as invalid", status=400, code="upstream_400"
            )
        case 401:
            return BackendUnavailable("the service did not accept the CLI's login; log in again")
        case 403:
            return UpstreamFault(
                "the service refused this request", status=403, code="upstream_403"
            )
        case 404:
            return ModelNotFound("the service does not know this model", param="model")
        case 413:
            return TooLarge("the conversation is larger than the service takes", param="messages")
        case 529:
            return UpstreamOverloaded("the service is overloaded")
        case int(status) if status >= 500:
            return UpstreamFault(f"the service failed with status {status}")
        case int():
            # Without the number: clients lock a provider that says "402" in a stream.
            return UpstreamFault("the service refused this request")
        case None if "not logged in" in words or "/login" in words:
            return BackendUnavailable(NOT_LOGGED_IN)
        # 2.1.197 gives such a turn the `terminal_reason` of a good one: only its words tell.
        case None if result.terminal_reason == "api_error" or words.startswith("api error"):
            return UpstreamFault("the service could not be reached")
        case None:
            return WorkerDied("the claude CLI gave up on this turn")
