"""What the replies say of the account's usage windows, in headers.

`x-ratelimit-*-requests` are OpenAI's names. The service does not count requests but tells which
part of a window is used, so they stand for the window that is used most, in percent: the limit is
always 100, what remains is rounded down, and the reset is when that window begins anew.
`anthropic-ratelimit-unified-*` are the service's own names and values, for clients that know them.
All are as the last turn has left them, and none is there before the service has said anything.
"""

import math
import re
from collections.abc import Iterator

from maxd.daemon.account import Account

Headers = list[tuple[bytes, bytes]]
_SHORT = {"five_hour": "5h", "seven_day": "7d", "seven_day_overage_included": "7d_oi"}
"""How the service shortens the names of windows in headers."""
# Anything else of the CLI's does not get into a header.
_STATUSES = ("allowed", "allowed_warning", "rejected")
_NAME = re.compile(r"[a-z0-9_]{1,64}")


def account_headers(account: Account, now: float) -> Headers:
    """The headers of a reply sent at `now`, in epoch seconds."""
    return [(name.encode(), value.encode()) for name, value in _headers(account, now)]


def _headers(account: Account, now: float) -> Iterator[tuple[str, str]]:
    window = account.tightest()
    if window is not None and window.utilization is not None:
        left = max(0, min(100, math.floor(100 * (1 - window.utilization) + 1e-9)))
        yield "x-ratelimit-limit-requests", "100"
        yield "x-ratelimit-remaining-requests", str(left)
        if window.resets_at is not None:
            yield "x-ratelimit-reset-requests", duration(window.resets_at - now)
    prefix = "anthropic-ratelimit-unified"
    named = account.named
    if named is not None and named.status in _STATUSES and _NAME.fullmatch(named.name):
        yield f"{prefix}-status", named.status
        yield f"{prefix}-representative-claim", named.name
        if named.resets_at is not None:
            yield f"{prefix}-reset", str(math.ceil(named.resets_at))
    for each in account.view().windows:
        if (short := _SHORT.get(each.name)) is None:
            continue
        if each.status in _STATUSES:
            yield f"{prefix}-{short}-status", each.status
        if each.utilization is not None:
            yield f"{prefix}-{short}-utilization", f"{each.utilization:g}"
        if each.resets_at is not None:
            yield f"{prefix}-{short}-reset", str(math.ceil(each.resets_at))


def duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: `6m0s`, `1h0m0s`, `12s`."""
    whole = max(0, math.ceil(seconds))
    hours, minutes = divmod(whole // 60, 60)
    text = f"{whole % 60}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
