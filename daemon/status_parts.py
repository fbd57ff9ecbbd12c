"""The account's limits and the notices, as the status page tells them."""

from maxd.daemon.account import AccountView
from maxd.daemon.notify import NotifierState
from maxd.daemon.status import LimitStatus, NotificationStatus


def limits_of(view: AccountView) -> tuple[LimitStatus, ...] | None:
    """The usage windows that are known; None where the service has told of none, as with an API
    key."""
    closed = {closure.window for closure in view.closures}
    return (
        tuple(
            LimitStatus(
                window=window.name,
                status=window.status or ("rejected" if window.name in closed else "unknown"),
                utilization=window.utilization,
                resets_at=window.resets_at,
            )
            for window in view.windows
        )
        or None
    )


def notifications_of(state: NotifierState) -> NotificationStatus:
    """What has become of the notices, over all channels."""
    channels = state.channels
    sent = [channel.last_sent for channel in channels if channel.last_sent is not None]
    problems = [channel.last_error for channel in channels if channel.last_error is not None]
    return NotificationStatus(
        channels=tuple(channel.name for channel in channels),
        sent=sum(channel.sent for channel in channels),
        failed=sum(channel.failed + channel.dropped for channel in channels) + state.dropped,
        last_at=max(sent, default=None),
        last_problem=problems[-1] if problems else None,
    )
