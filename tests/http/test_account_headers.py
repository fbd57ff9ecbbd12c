"""What replies say of the account's windows."""

import pytest

from maxd.daemon.account import Account
from maxd.http.account_headers import account_headers, duration
from maxd.workers.turn import AccountLimit, UsageWindow

NOW = 1_800_000_000.0


def headers(*limits: AccountLimit) -> dict[str, str]:
    account = Account(wall=lambda: NOW, monotonic=lambda: 0.0)
    for limit in limits:
        account.note(limit, "sonnet")
    told = account_headers(account, NOW)
    assert len(dict(told)) == len(told)
    return {name.decode(): value.decode() for name, value in told}


def test_nothing_is_said_before_the_service_has_said_anything() -> None:
    assert headers() == {}


def test_what_was_told_without_a_figure_makes_none_up() -> None:
    assert headers(AccountLimit("allowed", "five_hour", None, NOW + 60)) == {
        "anthropic-ratelimit-unified-status": "allowed",
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
        "anthropic-ratelimit-unified-reset": "1800000060",
        "anthropic-ratelimit-unified-5h-status": "allowed",
        "anthropic-ratelimit-unified-5h-reset": "1800000060",
    }


def test_openais_names_stand_for_the_window_that_is_used_most() -> None:
    windows = (
        UsageWindow("five_hour", "allowed", 0.4, NOW + 60),
        UsageWindow("seven_day", "allowed", 0.705, NOW + 7261),
        UsageWindow("something_new", "allowed", 0.1, NOW + 60),
    )
    told = headers(AccountLimit("allowed", "five_hour", None, NOW + 60, False, windows))
    assert told["x-ratelimit-limit-requests"] == "100"
    assert told["x-ratelimit-remaining-requests"] == "29"
    assert told["x-ratelimit-reset-requests"] == "2h1m1s"
    assert told["anthropic-ratelimit-unified-7d-utilization"] == "0.705"
    assert not [name for name in told if "new" in name]


@pytest.mark.parametrize(("used", "left"), [(0, "100"), (0.1, "90"), (1, "0"), (1.7, "0")])
def test_what_remains_is_a_percentage(used: float, left: str) -> None:
    limit = AccountLimit("allowed", "five_hour", used, NOW + 60)
    assert headers(limit)["x-ratelimit-remaining-requests"] == left


def test_nothing_of_another_form_gets_into_a_header() -> None:
    told = headers(AccountLimit("all\r\nowed: yes", "five_hour", None, NOW + 60))
    assert list(told) == ["anthropic-ratelimit-unified-5h-reset"]
    assert headers(AccountLimit("allowed", "a\r\nb", None, NOW + 60)) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-4, "0s"), (0, "0s"), (0.2, "1s"), (59, "59s"), (60, "1m0s"), (3600, "1h0m0s"),
     (90_061, "25h1m1s")],
)  # fmt: skip
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
