"""What the status page tells of the account and of the notices."""

from maxd.daemon.account import AccountView, Closure
from maxd.daemon.notify import ChannelState, NotifierState
from maxd.daemon.status import LimitStatus, NotificationStatus
from maxd.daemon.status_parts import limits_of, notifications_of
from maxd.workers.turn import UsageWindow


def test_windows_are_told_and_what_the_service_left_out_is_filled_in() -> None:
    view = AccountView(
        windows=(
            UsageWindow("five_hour", None, 1.0, 99.0),
            UsageWindow("seven_day", "allowed_warning", 0.9, None),
            UsageWindow("seven_day_opus", None, None, None),
        ),
        closures=(Closure("account", "five_hour", 99.0),),
        refused=1,
        uses_overage=False,
    )
    assert limits_of(view) == (
        LimitStatus(window="five_hour", status="rejected", utilization=1.0, resets_at=99.0),
        LimitStatus(window="seven_day", status="allowed_warning", utilization=0.9),
        LimitStatus(window="seven_day_opus", status="unknown"),
    )


def test_without_windows_nothing_is_known() -> None:
    assert limits_of(AccountView((), (), 0, uses_overage=False)) is None


def test_notices_are_summed_over_the_channels() -> None:
    state = NotifierState(
        (
            ChannelState("telegram", 2, 1, 0, "timed out", 7.0),
            ChannelState("webhook", 3, 0, 1, None, 9.0),
        ),
        dropped=4,
    )
    assert notifications_of(state) == NotificationStatus(
        channels=("telegram", "webhook"),
        sent=5,
        failed=6,
        last_at=9.0,
        last_problem="timed out",
    )
    assert notifications_of(NotifierState((), 0)) == NotificationStatus()
