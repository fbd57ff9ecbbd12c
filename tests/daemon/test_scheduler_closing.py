"""A scheduler that is closed and opened again."""

from maxd.workers.faults import BackendUnavailable, Overloaded
from maxd.workers.states import State
from tests.daemon.recorded_effects import AGENT, CHAT, NO_START, OPUS, fail_starts, make, warmed


def test_closing_refuses_who_waits_and_ends_what_nobody_uses() -> None:
    scheduler, record = make(max_workers=3, warm=(AGENT, CHAT))
    scheduler.tick(0.0)
    scheduler.worker_ready("w1", 0.5)
    scheduler.admit("r1", AGENT, "c", 1.0)
    scheduler.admit("r2", OPUS, "c", 1.0)
    record.take()
    reason = BackendUnavailable("the claude CLI is not logged in")
    scheduler.close(reason, 2.0)
    assert record.take() == [("refuse", "r2"), ("kill", "w2"), ("kill", "w3")]
    assert scheduler.state("w1") is State.LEASED
    scheduler.admit("r3", AGENT, "c", 3.0)
    assert record.faults["r3"] is reason
    assert scheduler.fault is reason
    for worker in ("w2", "w3"):
        scheduler.worker_gone(worker, 4.0)
    scheduler.tick(1000.0)
    assert record.take() == [("refuse", "r3")]
    assert scheduler.wake_at(1000.0) is None


def test_ready_after_the_close_is_not_leased() -> None:
    scheduler, record = make()
    scheduler.tick(0.0)
    scheduler.close(Overloaded("maxd is stopping"), 1.0)
    scheduler.worker_ready("w1", 1.0)
    assert scheduler.state("w1") is State.ENDING
    assert ("kill", "w1") in record.take()


def test_opening_starts_the_spares_and_forgives_what_failed_before() -> None:
    scheduler, record = make()
    fail_starts(scheduler, record, 100.0, NO_START)
    scheduler.close(BackendUnavailable("there is no claude CLI"), 100.0)
    record.take()
    scheduler.open(101.0)
    assert [told[0] for told in record.take()] == ["spawn"]
    scheduler.admit("r1", AGENT, "c", 101.0)
    assert record.take() == []
    assert scheduler.fault is None


def test_nothing_opens_a_daemon_that_is_stopping() -> None:
    scheduler, record = warmed()
    stopping = Overloaded("maxd is stopping")
    scheduler.close(stopping, 1.0, for_good=True)
    record.take()
    scheduler.open(2.0)
    scheduler.close(BackendUnavailable("the claude CLI is not logged in"), 2.0)
    scheduler.admit("r1", AGENT, "c", 3.0)
    assert record.faults["r1"] is stopping
    assert [told[0] for told in record.take()] == ["refuse"]
