"""What the CLI says of the account's usage windows, as an event."""

import msgspec
from msgspec import Struct

from maxd.workers.messages import RateLimitInfo
from maxd.workers.turn import AccountLimit, UsageWindow

# The longest window is a week; one more day for clocks that differ.
LONGEST_SECONDS = 8 * 86_400.0


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


def seconds_left(resets_at: float | None, now: float) -> float | None:
    """How long until `resets_at`, both in epoch seconds; None for a time that was not named or that
    no window can end at: one in the past, or more than `LONGEST_SECONDS` ahead."""
    if resets_at is None or not 0 < resets_at - now <= LONGEST_SECONDS:
        return None
    return resets_at - now


class LimitsHeard:
    """What one process has said of the account."""

    def __init__(self) -> None:
        self.last: AccountLimit | None = None
        self._late: AccountLimit | None = None

    def hear(self, info: RateLimitInfo, *, in_turn: bool) -> list[AccountLimit]:
        """The process has said `info`; what to tell of it now. The CLI says it behind the message
        that ends a turn in calls (2.1.330): what comes behind a turn is told in the next."""
        self.last = account_limit(info)
        if in_turn:
            return [self.last]
        self._late = self.last
        return []

    def take_late(self, now: float) -> list[AccountLimit]:
        """What is still to be told, at `now` in epoch seconds. Of a window that has begun anew
        since, nothing: it would be taken for one without a known end."""
        late, self._late = self._late, None
        if late is None or (late.resets_at is not None and late.resets_at <= now):
            return []
        return [late]
