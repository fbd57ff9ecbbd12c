"""What is told of what has happened, and how often."""

import pytest

from maxd.daemon import notices
from maxd.daemon.notices import HOUR, MOST_PER_HOUR, Digest, Kind, Message, Notice
from maxd.workers.faults import BackendUnavailable, TurnTimedOut, WorkerStartFailed

INTERVAL = 900.0
TIMED_OUT = notices.turn_timed_out(TurnTimedOut("the turn was ended: nothing for 10 minutes"))
LOGGED_OUT = notices.backend_unavailable(BackendUnavailable("The claude CLI is not logged in."))
BACK = notices.backend_available()


def test_the_first_is_sent_at_once_and_the_others_with_a_count() -> None:
    digest = Digest(INTERVAL)
    assert digest.tell(TIMED_OUT, 0.0) == Message(TIMED_OUT)
    for second in (1.0, 2.0, 899.0):
        assert digest.tell(TIMED_OUT, second) is None
    assert digest.wake_at() == INTERVAL
    assert digest.due(899.9) == []
    assert digest.due(INTERVAL) == [Message(TIMED_OUT, 3)]
    # The next interval has begun.
    assert digest.tell(TIMED_OUT, INTERVAL + 1) is None
    assert digest.wake_at() == 2 * INTERVAL
    assert digest.due(2 * INTERVAL) == [Message(TIMED_OUT)]
    assert digest.due(3 * INTERVAL) == []
    assert digest.wake_at() is None
    assert digest.tell(TIMED_OUT, 4 * INTERVAL) == Message(TIMED_OUT)


def test_a_condition_that_stands_is_told_once() -> None:
    digest = Digest(INTERVAL)
    assert digest.tell(LOGGED_OUT, 0.0) == Message(LOGGED_OUT)
    for second in (1.0, INTERVAL, 100 * INTERVAL):
        assert digest.tell(LOGGED_OUT, second) is None
        assert digest.due(second) == []


def test_another_reason_for_a_condition_is_news() -> None:
    digest = Digest(INTERVAL)
    digest.tell(LOGGED_OUT, 0.0)
    missing = notices.backend_unavailable(BackendUnavailable("There is no claude on PATH."))
    assert digest.tell(missing, 1.0) is None
    assert digest.due(INTERVAL) == [Message(missing)]


def test_an_end_is_told_where_the_condition_was() -> None:
    digest = Digest(INTERVAL)
    assert digest.tell(BACK, 0.0) is None
    digest.tell(LOGGED_OUT, 1.0)
    assert digest.tell(BACK, 2.0) == Message(BACK)
    assert digest.tell(BACK, 3.0) is None


def test_what_comes_and_goes_is_told_once_in_an_interval() -> None:
    digest = Digest(INTERVAL)
    sent = []
    for second in range(0, 1000):
        sent.append(digest.tell(LOGGED_OUT if second % 2 == 0 else BACK, float(second)))
        sent += digest.due(float(second))
    assert [message for message in sent if message] == [
        Message(LOGGED_OUT),
        Message(BACK),
        Message(LOGGED_OUT),
        Message(BACK),
    ]


def test_what_has_ended_before_it_was_told_is_not_told() -> None:
    digest = Digest(INTERVAL)
    digest.tell(LOGGED_OUT, 0.0)
    digest.tell(BACK, 1.0)
    digest.tell(LOGGED_OUT, 2.0)
    digest.tell(BACK, 3.0)
    assert digest.wake_at() is None
    assert digest.due(INTERVAL) == []


def test_kinds_and_subjects_are_told_apart() -> None:
    digest = Digest(INTERVAL)
    told = [
        TIMED_OUT,
        LOGGED_OUT,
        notices.account_limit("five_hour", 1_800_000_000.0),
        notices.account_limit("seven_day", None),
        notices.pool_degraded(WorkerStartFailed("the claude CLI ended")),
        notices.login_expires(86_400),
    ]
    assert [digest.tell(each, 0.0) for each in told] == [Message(each) for each in told]
    over = notices.account_open("seven_day")
    assert digest.tell(over, 1.0) == Message(over)
    assert digest.tell(notices.account_open("other"), 1.0) is None


def test_nobody_is_sent_more_than_so_many_in_an_hour() -> None:
    digest = Digest(0.0)
    many = [digest.tell(TIMED_OUT, float(second)) for second in range(100)]
    assert sum(message is not None for message in many) == MOST_PER_HOUR
    assert digest.dropped == 100 - MOST_PER_HOUR
    assert digest.tell(TIMED_OUT, HOUR) is not None


def test_what_was_told_is_forgotten() -> None:
    digest = Digest(INTERVAL)
    for window in range(1000):
        digest.tell(Notice(kind=Kind.TEST, title="", text="", subject=str(window)), 0.0)
    digest.due(INTERVAL)
    assert "0 subjects" in repr(digest)


@pytest.mark.parametrize(
    ("notice", "words"),
    [
        (TIMED_OUT, ["The turn was ended: nothing for 10 minutes. ", "activity_minutes"]),
        (LOGGED_OUT, ["The claude CLI is not logged in. ", "503"]),
        (notices.account_limit("five_hour", 1_800_000_000.0), ["five_hour", "2027-01-15", "429"]),
        (notices.login_expires(6 * 3600), ["in 6 hours", "/login"]),
        (notices.login_expires(5 * 86_400), ["in 5 days"]),
        (notices.login_expires(-1), ["in 0 hours"]),
    ],
)
def test_it_says_what_happened_and_what_to_do(notice: Notice, words: list[str]) -> None:
    assert all(word in notice.text for word in words), notice.text
    assert Message(notice).title.startswith("maxd: ")
    assert "(7 times" in Message(notice, 7).text
