"""The Messages API's errors, and the headers that tell of the account's limits."""

from typing import TypeAlias

import msgspec

from maxd.workers.loopback.reply import Error, Limit

Headers: TypeAlias = list[tuple[str, str]]

# The error types of the API by status, each with words like the service's own.
ERRORS = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "There is a problem with the billing of this account."),
    403: ("permission_error", "This credential may not use the requested resource."),
    404: ("not_found_error", "The requested resource does not exist."),
    413: ("request_too_large", "The request exceeds the maximum size."),
    429: ("rate_limit_error", "This request would exceed your account's rate limit."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}
# The windows' short names in headers, and when the service begins to warn of each.
WINDOWS = {
    "five_hour": ("5h", 0.9),
    "seven_day": ("7d", 0.75),
    "seven_day_overage_included": ("7d_oi", 0.75),
}


def error_type(error: Error) -> str:
    """The API's name for the error."""
    default = "invalid_request_error" if error.status < 500 else "api_error"
    return error.type or ERRORS.get(error.status, (default, ""))[0]


def error_message(error: Error) -> str:
    """The words of the error."""
    return error.message or ERRORS.get(error.status, ("", f"HTTP {error.status}"))[1]


def error_body(error: Error, suffix: str) -> bytes:
    """The JSON of an error in place of an answer."""
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": error_type(error), "message": error_message(error)},
            "request_id": f"req_{suffix}",
        }
    )


def limit_headers(limit: Limit, now: float) -> Headers:
    """The headers by which the service tells of the account's usage window."""
    prefix = "anthropic-ratelimit-unified"
    short, warns_at = WINDOWS[limit.window]
    resets_at = limit.resets_at if limit.resets_at is not None else round(now) + limit.resets_in
    utilization = limit.utilization
    if utilization is None:
        utilization = {"allowed": 0.25, "allowed_warning": warns_at, "rejected": 1.0}[limit.status]
    headers = [
        (f"{prefix}-status", limit.status),
        (f"{prefix}-reset", str(resets_at)),
        (f"{prefix}-representative-claim", limit.window),
        (f"{prefix}-fallback", "unavailable"),
        (f"{prefix}-{short}-status", limit.status),
        (f"{prefix}-{short}-reset", str(resets_at)),
        (f"{prefix}-{short}-utilization", str(utilization)),
    ]
    if limit.status == "allowed_warning":
        # Without it the CLI makes up its own mind, from the utilization and the time of day.
        headers.append((f"{prefix}-{short}-surpassed-threshold", str(warns_at)))
    if limit.status == "rejected":
        headers.append(("retry-after", str(max(0, resets_at - round(now)))))
    return headers
