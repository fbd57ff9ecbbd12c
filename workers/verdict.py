"""What a failed turn means: from the CLI's `result` to a fault, or to an end after all.

The CLI's own words are read here to tell cases apart and go no further: they may quote the
conversation, and some clients lock themselves out on words like "expired" or "quota".
"""

import re

from maxd.workers.account_limits import seconds_left
from maxd.workers.faults import (
    BackendUnavailable,
    ContextTooLong,
    Fault,
    ModelNotFound,
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
)
from maxd.workers.messages import Result
from maxd.workers.turn import AccountLimit, StopReason

NOT_LOGGED_IN = "the claude CLI is not logged in; run `maxd claude` and /login, then try again"
# Ends of a model message after which the CLI asks the model to go on, three times at most, and
# then calls the turn an error (2.1.197, 2.1.330): the answer that the client has is cut short.
CUT_SHORT = frozenset(("max_tokens", "model_context_window_exceeded"))
# What the service has said to logins that it does not let be used like this, with 400.
_OTHER_USE = ("third-party", "only authorized for use with")
_HOW_LONG = re.compile(r"([0-9][0-9,]*) tokens(?: > | \(limit )([0-9][0-9,]*)")


def given_up(result: Result, last_stop: StopReason | None) -> StopReason | None:
    """The stop reason of a turn that the CLI calls an error though the model has answered: with
    as much as it may say, or with a refusal. None for any other `result` with `is_error`.

    `last_stop` is why the last model message ended, None if it was cut off.
    """
    if result.api_error_status is not None or last_stop is None:
        return None
    if "refusal" in (last_stop, result.stop_reason):
        return "refusal"
    return last_stop if last_stop in CUT_SHORT else None


def fault_of(result: Result, limit: AccountLimit | None, now: float) -> Fault:
    """The fault of a `result` with `is_error`.

    `limit` is the last thing the service said of the account's window; `now` is in epoch seconds.
    """
    words = (result.result or "").lower()
    if result.terminal_reason == "prompt_too_long" or "prompt is too long" in words:
        return ContextTooLong(_too_long(words), param="messages")
    status = result.api_error_status
    if status == 429 and limit is not None and limit.used_up:
        return usage_limit(limit.window, limit.resets_at, now)
    if status == 403 or (status == 400 and any(use in words for use in _OTHER_USE)):
        return UseRefused(
            "the service does not let this login be used in this way; its owner or the "
            "administrator of the organization can change that"
        )
    return _by_status(status) if status is not None else _without_status(result, words)


def usage_limit(window: str | None, resets_at: float | None, now: float) -> UsageLimit:
    """The fault of a window that is used up. `now` is in epoch seconds."""
    return UsageLimit(
        "usage limit of the account reached",
        retry_after=seconds_left(resets_at, now),
        window=window,
        resets_at=resets_at,
    )


def _too_long(words: str) -> str:
    how_long = _HOW_LONG.search(words)
    if how_long is None:
        return "prompt is too long: the conversation does not fit the model's context window"
    tokens, maximum = (figure.replace(",", "") for figure in how_long.groups())
    return f"prompt is too long: {tokens} tokens > {maximum} maximum"


def _by_status(status: int) -> Fault:
    match status:
        case 400:
            return UpstreamRefused("the service refused the conversation as invalid")
        case 401:
            return BackendUnavailable("the service did not accept the CLI's login; log in again")
        case 404:
            return ModelNotFound("the service does not know this model", param="model")
        case 413:
            return TooLarge("the conversation is larger than the service takes", param="messages")
        case 429:
            return RateLimited("the service asks to slow down")
        case 504:
            return UpstreamTimeout("the service took too long")
        case 529:
            return UpstreamOverloaded("the service is overloaded")
        case _ if 400 < status < 500:
            # Without the number in the text: clients lock a provider that says "402" in a stream.
            return UpstreamRefused("the service refused this request", status=status)
        case _:
            return UpstreamFault("the service failed")


def _without_status(result: Result, words: str) -> Fault:
    if "not logged in" in words or "/login" in words:
        return BackendUnavailable(NOT_LOGGED_IN)
    # 2.1.197 gives such a turn the `terminal_reason` of a good one: only its words tell.
    if result.terminal_reason == "api_error" or words.startswith("api error"):
        return UpstreamUnreachable("the service could not be reached")
    return WorkerDied("the claude CLI gave up on this turn")
