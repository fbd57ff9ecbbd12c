"""Who waits for a worker, in what order, for how long, and how many."""

import time

import pytest

from maxd.workers.faults import Overloaded, WorkerDied
from maxd.workers.states import State
from tests.daemon.recorded_effects import AGENT, CHAT, OPUS, make, warmed

# The queue


def test_clients_take_turns() -> None:
    scheduler, record = make(max_workers=1, warm=(), queue_length=101)
    for number in range(100):
        scheduler.admit(f"a{number}", AGENT, "a", 0.0)
    scheduler.admit("b0", AGENT, "b", 0.0)
    granted = []
    for turn in range(1, 5):
        scheduler.worker_ready(f"w{turn}", 1.0)
        scheduler.release(f"w{turn}", "its turn is over", 1.0)
        scheduler.worker_gone(f"w{turn}", 1.0)
        granted += [told[1] for told in record.take() if told[0] == "grant"]
    assert granted == ["a0", "b0", "a1", "a2"]


def test_a_request_that_lost_its_worker_is_first_of_its_client() -> None:
    scheduler, record = warmed(max_workers=1)
    scheduler.admit("r1", AGENT, "c", 0.0)
    scheduler.admit("r2", AGENT, "c", 0.0)
    scheduler.worker_gone("w1", 1.0, fault=WorkerDied("the claude CLI ended by itself"))
    scheduler.admit("r3", AGENT, "c", 1.0, again=True)
    record.take()
    scheduler.worker_ready("w2", 2.0)
    assert record.take() == [("grant", "r3", "w2")]


def test_who_waits_too_long_is_refused_and_told_when_to_come_back() -> None:
    scheduler, record = make(max_workers=1)
    scheduler.admit("r1", AGENT, "c", 5.0)
    record.take()
    assert scheduler.wake_at(5.0) == 65.0
    scheduler.tick(64.9)
    assert record.take() == []
    scheduler.tick(65.0)
    assert record.take() == [("refuse", "r1")]
    assert isinstance(record.faults["r1"], Overloaded)
    assert record.faults["r1"].retry_after is not None


def test_an_older_request_behind_a_newer_one_is_refused_in_time() -> None:
    """`again` puts a newer one before it, whose time is up much later."""
    scheduler, record = make(max_workers=1)
    scheduler.admit("old", AGENT, "c", 0.0)
    scheduler.admit("new", AGENT, "c", 50.0, again=True)
    record.take()
    assert scheduler.wake_at(50.0) == 60.0
    scheduler.tick(60.0)
    assert record.take() == [("refuse", "old")]


def test_no_time_to_wait_still_serves_who_need_not_wait() -> None:
    scheduler, record = warmed(queue_seconds=0)
    scheduler.admit("r1", AGENT, "c", 1.0)
    scheduler.admit("r2", AGENT, "c", 1.0)
    assert record.take() == [("grant", "r1", "w1"), ("spawn", "w2", *AGENT), ("refuse", "r2")]


def test_no_place_to_wait_still_starts_what_was_asked_for() -> None:
    scheduler, record = make(queue_length=0, warm=())
    scheduler.admit("r1", AGENT, "c", 0.0)
    assert record.take() == [("refuse", "r1"), ("spawn", "w1", *AGENT)]
    scheduler.worker_ready("w1", 1.0)
    scheduler.admit("r2", AGENT, "c", 1.0)
    assert record.take()[0] == ("grant", "r2", "w1")


def test_a_full_queue_refuses_but_not_who_came_before() -> None:
    scheduler, record = make(max_workers=1, queue_length=2)
    for request in ("r1", "r2", "r3"):
        scheduler.admit(request, AGENT, "c", 0.0)
    assert ("refuse", "r3") in record.take()
    assert isinstance(record.faults["r3"], Overloaded)
    assert record.faults["r3"].retry_after is not None
    scheduler.admit("r4", AGENT, "c", 0.0, again=True)
    assert record.take() == []


def test_a_full_queue_for_one_model_does_not_refuse_another_with_a_spare() -> None:
    scheduler, record = make(max_workers=2, queue_length=1, warm=(CHAT,))
    scheduler.tick(0.0)
    scheduler.admit("r1", AGENT, "c", 0.0)
    scheduler.worker_ready("w1", 1.0)
    record.take()
    scheduler.admit("r2", CHAT, "d", 1.0)
    assert ("grant", "r2", "w1") in record.take()


def test_withdrawn_from_the_queue_gets_nothing() -> None:
    scheduler, record = make(max_workers=1)
    scheduler.admit("r1", AGENT, "c", 0.0)
    scheduler.withdraw("r1", 0.5)
    scheduler.worker_ready("w1", 1.0)
    assert record.take() == [("spawn", "w1", *AGENT)]
    assert scheduler.counts()[State.SPARE] == 1


def test_withdrawn_in_the_moment_of_the_grant_gives_the_worker_back() -> None:
    scheduler, record = warmed(max_workers=1)
    scheduler.admit("r1", AGENT, "c", 1.0)
    scheduler.withdraw("r1", 1.0)
    assert record.take() == [("grant", "r1", "w1"), ("kill", "w1")]
    scheduler.withdraw("r1", 1.0)
    scheduler.worker_gone("w1", 2.0)
    assert scheduler.counts()[State.LEASED] == 0


def test_withdrawing_what_is_unknown_changes_nothing() -> None:
    scheduler, record = warmed()
    scheduler.withdraw("r9", 1.0)
    scheduler.release("w9", "its turn is over", 1.0)
    assert record.take() == []


# Size


@pytest.mark.parametrize("clients", [1, 7, 1000])
def test_a_thousand_requests_at_once_are_taken_in_well_under_a_second(clients: int) -> None:
    scheduler, record = make(max_workers=20, warm=(AGENT, CHAT), queue_length=1000)
    scheduler.tick(0.0)
    scheduler.worker_ready("w1", 0.0)
    scheduler.worker_ready("w2", 0.0)
    started = time.process_time()
    for number in range(1000):
        scheduler.admit(f"r{number}", OPUS, f"c{number % clients}", 1.0)
        scheduler.wake_at(1.0)
    scheduler.tick(61.0)
    # 0.02 s on one core; walking through the queue each time took 2 s and more.
    assert time.process_time() - started < 0.8
    assert len(record.faults) == 1000
