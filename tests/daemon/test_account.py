"""The view of the account's usage windows: whom it refuses, until when, and what it shows."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from maxd.daemon.account import (
    AGAIN_SECONDS,
    TRIAL_SECONDS,
    WHOLE_ACCOUNT,
    Account,
    Closure,
    family,
    scope_of,
)
from maxd.workers.account_limits import LONGEST_SECONDS
from maxd.workers.faults import UsageLimit
from maxd.workers.turn import AccountLimit, UsageWindow

NOW = 1_800_000_000.0


class Clocks:
    """A wall clock and a monotonic one that do as they are told."""

    def __init__(self) -> None:
        self.wall = NOW
        self.monotonic = 50.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


class Rig:
    def __init__(self) -> None:
        self.clocks = Clocks()
        self.closed: list[Closure] = []
        self.account = Account(
            wall=lambda: self.clocks.wall,
            monotonic=lambda: self.clocks.monotonic,
            on_closed=self.closed.append,
        )

    def reject(
        self, resets_in: float | None = 100, window: str | None = "five_hour", model: str = "sonnet"
    ) -> None:
        resets_at = None if resets_in is None else self.clocks.wall + resets_in
        self.account.note(AccountLimit("rejected", window, None, resets_at), model)

    @contextmanager
    def admitted(self, model: str, turn: object) -> Iterator[None]:
        self.account.check(model)
        self.account.begin(model, turn)
        yield
        self.account.left(turn)

    def wait(self, model: str = "sonnet") -> float | None:
        fault = self.account.refusal(model)
        return None if fault is None else fault.retry_after


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_window_that_is_used_up_refuses_until_its_reset_and_then_opens_by_itself(
    rig: Rig,
) -> None:
    assert rig.wait() is None
    rig.reject(100)
    assert rig.closed == [Closure(WHOLE_ACCOUNT, "five_hour", NOW + 100)]
    assert (rig.wait("sonnet"), rig.wait("opus")) == (100, 100)
    rig.clocks.pass_(99.5)
    assert rig.wait() == 1
    assert rig.account.view().closures == (Closure(WHOLE_ACCOUNT, "five_hour", NOW + 100),)
    rig.clocks.pass_(0.5)
    assert rig.wait() is None
    assert rig.account.view().closures == ()
    # To everybody at once, not to one that tries.
    with rig.admitted("sonnet", 1), rig.admitted("sonnet", 2):
        pass


@pytest.mark.parametrize(("wall", "monotonic"), [(101, 0), (0, 101), (-9999, 101)])
def test_whichever_clock_says_so_it_opens(rig: Rig, wall: float, monotonic: float) -> None:
    rig.reject(100)
    rig.clocks.wall += wall
    rig.clocks.monotonic += monotonic
    assert rig.wait() is None


def test_a_clock_that_was_set_back_does_not_lengthen_the_wait(rig: Rig) -> None:
    rig.reject(100)
    rig.clocks.wall -= 86_400
    rig.clocks.monotonic += 40
    assert rig.wait() == 60


def test_the_same_news_is_told_once(rig: Rig) -> None:
    rig.reject(100)
    rig.reject(100)
    rig.account.note_fault(
        UsageLimit("m", window="five_hour", resets_at=NOW + 100), "claude-opus-4"
    )
    assert len(rig.closed) == 1
    rig.reject(200)
    assert len(rig.closed) == 2
    assert rig.wait() == 200


@pytest.mark.parametrize("resets_in", [None, 0, -5, -NOW, LONGEST_SECONDS + 1, 1e15])
def test_a_reset_that_cannot_be_believed_is_tried_by_one_turn_at_a_time(
    rig: Rig, resets_in: float | None
) -> None:
    rig.reject(resets_in)
    assert rig.closed[-1].resets_at is None
    assert rig.wait() == AGAIN_SECONDS
    rig.clocks.pass_(AGAIN_SECONDS)
    with rig.admitted("sonnet", "first"):
        with pytest.raises(UsageLimit) as caught, rig.admitted("opus", "second"):
            pass
        assert caught.value.retry_after == TRIAL_SECONDS
    # The first has found out nothing.
    with rig.admitted("opus", "third"):
        rig.reject(resets_in)
    assert rig.wait() == AGAIN_SECONDS, "it was refused as well"
    rig.clocks.pass_(AGAIN_SECONDS)
    with rig.admitted("sonnet", "fourth"):
        rig.account.answered("fifth")
        assert rig.wait() == TRIAL_SECONDS, "another turn's answer proves nothing"
        rig.account.answered("fourth")
        assert rig.wait() is None
    assert rig.account.view().closures == ()


def test_what_was_allowed_before_opens_nothing(rig: Rig) -> None:
    rig.reject(100)
    rig.account.note(AccountLimit("allowed", "five_hour", 0.9, NOW + 100), "sonnet")
    rig.account.answered("a turn that ran already")
    assert rig.wait() == 100


@pytest.mark.parametrize(
    "limit",
    [
        AccountLimit("allowed", "five_hour", 0.1, NOW + 9),
        AccountLimit("allowed_warning", "five_hour", 0.9, NOW + 9),
        AccountLimit("rejected", "five_hour", 1, NOW + 9, uses_overage=True),
        AccountLimit("rejected"),
        AccountLimit(
            "rejected", "five_hour", None, NOW + 9, windows=(UsageWindow("five_hour", "allowed"),)
        ),
        AccountLimit("something new", "five_hour", 1, NOW + 9),
    ],
)
def test_nothing_but_a_used_up_window_closes(rig: Rig, limit: AccountLimit) -> None:
    rig.account.note(limit, "sonnet")
    assert rig.wait() is None
    assert rig.closed == []


def test_extra_usage_that_is_refused_too_closes(rig: Rig) -> None:
    rig.account.note(
        AccountLimit("rejected", "five_hour", 1, NOW + 90, uses_overage=True), "sonnet"
    )
    rig.account.note_fault(UsageLimit("m", window="five_hour", resets_at=NOW + 90), "sonnet")
    assert rig.wait() == 90


def test_a_window_of_one_family_refuses_that_family_alone(rig: Rig) -> None:
    rig.reject(100, "seven_day_opus", "claude-opus-4-5")
    assert (rig.wait("opus"), rig.wait("sonnet"), rig.wait("haiku")) == (100, None, None)
    rig.reject(50, "five_hour", "haiku")
    assert (rig.wait("opus"), rig.wait("sonnet")) == (100, 50)
    assert rig.wait("claude-opus-4-1") == 100


@pytest.mark.parametrize(
    ("window", "scope"),
    [
        ("five_hour", WHOLE_ACCOUNT),
        ("seven_day", WHOLE_ACCOUNT),
        ("overage", WHOLE_ACCOUNT),
        ("seven_day_opus", "opus"),
        ("seven_day_overage_included", "opus"),
        ("something_new", "opus"),
        (None, "opus"),
    ],
)
def test_whose_a_window_is(window: str | None, scope: str) -> None:
    assert scope_of(window, "opus") == scope


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("opus", "opus"),
        ("opus[1m]", "opus"),
        ("claude-opus-4-5-20251101", "opus"),
        ("claude-3-5-sonnet-20241022", "sonnet"),
        ("us.anthropic.claude-haiku-4-5-v1:0", "haiku"),
        ("claude-haiku-4-5@20251001", "haiku"),
        ("4711", "4711"),
    ],
)
def test_the_family_of_a_model(model: str, name: str) -> None:
    assert family(model) == name


def test_another_login_begins_anew(rig: Rig) -> None:
    rig.reject(100)
    rig.account.forget()
    assert rig.wait() is None
    assert rig.account.view().windows == ()


def test_the_view_shows_all_windows_and_counts_who_was_refused(rig: Rig) -> None:
    windows = (
        UsageWindow("five_hour", "allowed", 0.4, NOW + 100),
        UsageWindow("seven_day", "allowed_warning", 0.8, NOW + 9999),
    )
    rig.account.note(AccountLimit("allowed", "five_hour", None, NOW + 100, False, windows), "opus")
    assert rig.account.view().windows == windows
    assert rig.account.tightest() == windows[1]
    assert rig.account.named == windows[0]
    rig.reject(100)
    for number in range(3):
        with pytest.raises(UsageLimit), rig.admitted("sonnet", number):
            pass
    assert rig.account.view().refused == 3
    rig.clocks.pass_(101)
    assert rig.account.view().windows == windows[1:], "the other's time is over"
