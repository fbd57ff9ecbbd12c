"""What the status page tells of the account and of the notices."""

from maxd.daemon.account import AccountView, Closure
from maxd.daemon.notify import ChannelState, NotifierState
from maxd.daemon.status import LimitStatus, NotificationStatus, ProbeStatus
from maxd.daemon.status_parts import limits_of, notifications_of, probes_of
from maxd.workers.features import PROBES, RESET, Finding
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


def test_every_probe_is_told_also_before_it_has_run() -> None:
    names = [name for name, _, _ in PROBES]
    unknown = probes_of(None, reset=None, reset_failure=None)
    assert [(each.name, each.passed) for each in unknown] == [
        *((name, None) for name in names),
        ("reset", None),
    ]
    assert all(each.switches_off for each in unknown)
    found = [
        Finding(name, name != "schema", "" if name != "schema" else "no", "x") for name in names
    ]
    told = {each.name: each for each in probes_of(found, reset=False, reset_failure="it remembers")}
    assert told["bind"] == ProbeStatus(name="bind", passed=True, switches_off="x")
    assert told["schema"] == ProbeStatus(name="schema", passed=False, reason="no", switches_off="x")
    assert told["reset"] == ProbeStatus(
        name="reset", passed=False, reason="it remembers", switches_off=RESET[1]
    )
