"""What the CLI says of the account's usage windows, as an event."""

import msgspec
from msgspec import Struct

from maxd.workers.messages import RateLimitInfo
from maxd.workers.turn import AccountLimit, UsageWindow


class _Window(Struct, rename="camel"):
    utilization: float | None = None
    resets_at: float | None = None
    status: str | None = None


def account_limit(info: RateLimitInfo) -> AccountLimit:
    """The event that `info` stands for. Details of another form than known are left out."""
    try:
        told = msgspec.json.decode(info.unified_windows, type=dict[str, _Window])
    except msgspec.DecodeError:
        told = {}
    return AccountLimit(
        info.status,
        info.rate_limit_type,
        info.utilization,
        info.resets_at,
        info.is_using_overage,
        tuple(
            UsageWindow(name, window.status, window.utilization, window.resets_at)
            for name, window in told.items()
        ),
    )
