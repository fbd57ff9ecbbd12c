"""When a failed start may be tried again."""

from hypothesis import given
from hypothesis import strategies as st

from maxd.daemon.backoff import BUDGET, BUDGET_SECONDS, FIRST_DELAY, LONGEST_DELAY, Backoff


def test_the_first_start_is_allowed_at_once() -> None:
    backoff = Backoff()
    assert backoff.not_before() <= 0.0
    assert not backoff.degraded


def test_delays_double_from_half_a_second_to_thirty() -> None:
    backoff = Backoff()
    now = 100.0
    delays = []
    for _ in range(9):
        backoff.failed(now)
        delays.append(backoff.not_before() - now)
        now = backoff.not_before()
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_success_allows_the_next_start_at_once() -> None:
    backoff = Backoff()
    for _ in range(4):
        backoff.failed(10.0)
    backoff.succeeded(11.0)
    assert backoff.not_before() == 11.0


def test_a_budget_of_failures_at_once_degrades_until_a_success() -> None:
    backoff = Backoff()
    for second in range(BUDGET - 1):
        backoff.failed(float(second))
        assert not backoff.degraded
    backoff.failed(float(BUDGET))
    assert backoff.degraded
    backoff.succeeded(20.0)
    assert not backoff.degraded


def test_successes_in_between_do_not_save_a_spent_budget() -> None:
    backoff = Backoff()
    for second in range(BUDGET):
        backoff.succeeded(float(second))
        backoff.failed(float(second))
    assert backoff.degraded


def test_starts_that_hang_until_their_time_is_up_degrade_too() -> None:
    """At 30 s each they never are five in thirty seconds."""
    backoff = Backoff()
    for nth in range(BUDGET):
        assert not backoff.degraded
        backoff.failed(nth * (BUDGET_SECONDS + LONGEST_DELAY))
    assert backoff.degraded


def test_rare_failures_do_not_degrade_and_wait_no_longer_each_time() -> None:
    backoff = Backoff()
    for nth in range(50):
        now = nth * 600.0
        backoff.failed(now)
        assert backoff.not_before() - now == FIRST_DELAY
        backoff.succeeded(now + 1.0)
        assert not backoff.degraded


def test_ready_and_dead_at_once_again_and_again_is_no_loop_of_starts() -> None:
    backoff = Backoff()
    now = 0.0
    starts = 0
    while now < 600.0:
        now = max(now, backoff.not_before())
        starts += 1
        backoff.succeeded(now + 0.6)
        now += 0.7
        backoff.failed(now)
    assert starts <= 7 + 600 / LONGEST_DELAY


def test_failing_through_a_night_overflows_nothing() -> None:
    """Doubling as a power of the count raised OverflowError after 1,024 failures, or 8.5 hours."""
    backoff = Backoff()
    now = 0.0
    for _ in range(2_000):
        backoff.failed(now)
        now = backoff.not_before()
    assert backoff.not_before() - now <= LONGEST_DELAY


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100))))
def test_a_start_is_never_put_off_for_longer_than_the_longest_delay(
    happenings: list[tuple[bool, float]],
) -> None:
    backoff = Backoff()
    now = 0.0
    for worked, later in happenings:
        now += later
        (backoff.succeeded if worked else backoff.failed)(now)
        assert backoff.not_before() <= now + LONGEST_DELAY
        assert worked or backoff.not_before() >= now + FIRST_DELAY
