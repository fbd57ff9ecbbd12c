"""Workers that die and starts that fail: what is tried again, when, and what is told."""

import pytest

from maxd.workers.faults import WorkerDied, WorkerStartFailed
from maxd.workers.states import State
from tests.daemon.recorded_effects import AGENT, CHAT, NO_START, OPUS, fail_starts, make, warmed


def test_a_leased_worker_that_dies_is_no_failed_start() -> None:
    scheduler, record = warmed()
    scheduler.admit("r1", AGENT, "c", 1.0)
    scheduler.worker_gone("w1", 2.0, fault=WorkerDied("the claude CLI ended by itself"))
    scheduler.release("w1", "its turn was cut short", 2.0)
    scheduler.admit("r2", AGENT, "c", 2.0)
    assert ("kill", "w1") not in record.take()
    assert scheduler.fault is None


def test_a_failed_start_is_tried_again_later_one_at_a_time() -> None:
    scheduler, record = make(warm=(AGENT, CHAT, OPUS), max_starting=2)
    scheduler.tick(0.0)
    scheduler.worker_gone("w1", 1.0, fault=NO_START)
    scheduler.worker_gone("w2", 1.0, fault=NO_START)
    record.take()
    assert scheduler.wake_at(1.0) == 2.0
    scheduler.tick(1.9)
    assert record.take() == []
    scheduler.tick(2.0)
    assert len(record.take()) == 1
    scheduler.worker_ready("w3", 3.0)
    assert len(record.take()) == 2


def test_a_spare_that_dies_counts_as_a_failed_start() -> None:
    scheduler, record = warmed()
    scheduler.worker_gone("w1", 1.0, fault=WorkerDied("the claude CLI ended by itself"))
    assert record.take() == []
    assert scheduler.wake_at(1.0) == 1.5


@pytest.mark.parametrize("waiting", [0, 50])
def test_a_cli_that_cannot_start_is_not_started_in_a_loop(waiting: int) -> None:
    scheduler, record = make(warm=(AGENT, CHAT), spares=2)
    for number in range(waiting):
        scheduler.admit(f"r{number}", OPUS, "c", 0.0)
    starts = fail_starts(scheduler, record, 60.0, NO_START)
    # Four at once, then one each 4 s, 8 s, 16 s, 30 s.
    assert starts <= 10
    assert len(record.faults) == waiting


def test_requests_are_refused_with_the_reason_until_a_start_works() -> None:
    scheduler, record = make()
    scheduler.admit("r1", AGENT, "c", 0.0)
    fail_starts(scheduler, record, 20.0, NO_START)
    assert isinstance(record.faults["r1"], WorkerStartFailed)
    assert record.faults["r1"].message == NO_START.message
    assert record.faults["r1"].retry_after is not None
    scheduler.admit("r2", AGENT, "c", 20.0)
    assert record.faults["r2"].message == NO_START.message
    assert scheduler.fault is not None

    assert scheduler.wake_at(20.0) is not None
    scheduler.tick(100.0)
    [(_, worker, *_)] = [told for told in record.take() if told[0] == "spawn"]
    scheduler.worker_ready(worker, 101.0)
    assert scheduler.fault is None
    scheduler.admit("r3", AGENT, "c", 101.0)
    assert ("grant", "r3", worker) in record.take()


def test_without_spares_to_keep_a_request_finds_out_that_the_cli_works_again() -> None:
    scheduler, record = make(spares=0, warm=())
    for number in range(5):
        scheduler.admit(f"r{number}", AGENT, "c", number * 40.0)
        [worker] = [told[1] for told in record.take() if told[0] == "spawn"]
        scheduler.worker_gone(worker, number * 40.0 + 1.0, fault=NO_START)
    assert scheduler.fault is not None
    scheduler.admit("r8", AGENT, "c", 161.1)
    assert scheduler.fault is not None
    assert "r8" in record.faults
    scheduler.admit("r9", AGENT, "c", 240.0)
    [(_, worker, *_)] = [told for told in record.take() if told[0] == "spawn"]
    scheduler.admit("r10", AGENT, "c", 240.5)
    assert "r10" in record.faults
    scheduler.worker_ready(worker, 241.0)
    assert ("grant", "r9", worker) in record.take()
    assert scheduler.fault is None


def test_a_spare_serves_though_nothing_can_be_started() -> None:
    scheduler, record = make(warm=(AGENT, CHAT))
    scheduler.tick(0.0)
    scheduler.worker_ready("w1", 0.1)
    scheduler.worker_gone("w2", 0.2, fault=NO_START)
    record.take()
    fail_starts(scheduler, record, 25.0, NO_START)
    assert scheduler.fault is not None
    scheduler.admit("r1", AGENT, "c", 25.0)
    assert ("grant", "r1", "w1") in record.take()


def test_the_reason_for_a_long_wait_is_told_when_starts_fail() -> None:
    scheduler, record = make(queue_seconds=10)
    scheduler.admit("r1", AGENT, "c", 0.0)
    scheduler.worker_gone("w1", 9.0, fault=NO_START)
    scheduler.tick(10.0)
    assert record.faults["r1"].message == NO_START.message


def test_ready_and_dead_at_once_is_no_loop_of_starts() -> None:
    scheduler, record = make()
    now, starts = 0.0, 0
    scheduler.tick(now)
    while now < 120.0:
        for told in record.take():
            if told[0] == "spawn":
                starts += 1
                scheduler.worker_ready(told[1], now + 0.6)
                scheduler.worker_gone(told[1], now + 0.7, fault=WorkerDied("ended by itself"))
        wake = scheduler.wake_at(now + 0.7)
        assert wake is not None
        now = wake
        scheduler.tick(now)
    assert starts <= 10


def test_a_refused_request_is_not_told_of_a_worker_it_never_had() -> None:
    """It would be taken for a lost worker, and asked for again."""
    scheduler, record = make()
    scheduler.admit("r1", CHAT, "c", 0.0)
    now = 0.0
    for _ in range(5):
        [worker] = [told[1] for told in record.take() if told[0] == "spawn" and told[3] == "sonnet"]
        scheduler.worker_gone(worker, now + 0.1, fault=WorkerDied("the claude CLI ended by itself"))
        if (wake := scheduler.wake_at(now + 0.1)) is not None:
            now = wake
            scheduler.tick(now)
    assert not isinstance(record.faults["r1"], WorkerDied)


def test_a_stuck_worker_gives_its_slot_back_and_stays_in_sight() -> None:
    scheduler, record = warmed(max_workers=1)
    scheduler.admit("r1", AGENT, "c", 1.0)
    scheduler.release("w1", "its turn is over", 2.0)
    scheduler.worker_gone("w1", 7.0, stuck=True)
    assert record.take()[-1] == ("spawn", "w2", *AGENT)
    assert scheduler.counts()[State.STUCK] == 1
    scheduler.withdraw("r1", 8.0)
    assert record.take() == []
