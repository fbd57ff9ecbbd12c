"""Spares and grants: which workers are started, leased, replaced and ended."""

import pytest

from maxd.workers.faults import WorkerDied
from maxd.workers.states import State
from tests.daemon.recorded_effects import AGENT, CHAT, OPUS, make, warmed


def test_starts_the_warm_spares() -> None:
    scheduler, record = make(warm=(AGENT, CHAT))
    scheduler.tick(0.0)
    assert record.take() == [("spawn", "w1", *AGENT), ("spawn", "w2", *CHAT)]
    scheduler.worker_ready("w1", 1.0)
    scheduler.worker_ready("w2", 1.0)
    scheduler.tick(2.0)
    assert record.take() == []
    assert scheduler.counts()[State.SPARE] == 2


def test_starts_no_more_at_once_than_allowed() -> None:
    scheduler, record = make(max_starting=1, spares=3)
    scheduler.tick(0.0)
    assert record.take() == [("spawn", "w1", *AGENT)]
    scheduler.worker_ready("w1", 1.0)
    assert record.take() == [("spawn", "w2", *AGENT)]


def test_leases_a_spare_and_replaces_it_at_once() -> None:
    scheduler, record = warmed()
    scheduler.admit("r1", AGENT, "c", 1.0)
    assert record.take() == [("grant", "r1", "w1"), ("spawn", "w2", *AGENT)]
    assert scheduler.state("w1") is State.LEASED


def test_a_refill_waits_until_the_turn_is_being_answered() -> None:
    scheduler, record = make(refill_seconds=0.5)
    scheduler.tick(0.0)
    scheduler.worker_ready("w1", 0.0)
    scheduler.admit("r1", AGENT, "c", 1.0)
    assert record.take() == [("spawn", "w1", *AGENT), ("grant", "r1", "w1")]
    assert scheduler.wake_at(1.0) == 1.5
    scheduler.answering("r1", 1.2)
    assert record.take() == [("spawn", "w2", *AGENT)]


@pytest.mark.parametrize("end", ["time", "release", "gone"])
def test_a_refill_does_not_wait_for_ever(end: str) -> None:
    scheduler, record = make(refill_seconds=0.5)
    scheduler.tick(0.0)
    scheduler.worker_ready("w1", 0.0)
    scheduler.admit("r1", AGENT, "c", 1.0)
    record.take()
    match end:
        case "time":
            scheduler.tick(1.5)
        case "release":
            scheduler.release("w1", "its turn is over", 1.1)
        case _:
            scheduler.worker_gone("w1", 1.1)
    assert ("spawn", "w2", *AGENT) in record.take()


def test_a_start_that_a_request_waits_for_does_not_wait_for_a_turn() -> None:
    scheduler, record = make(refill_seconds=0.5)
    scheduler.tick(0.0)
    scheduler.worker_ready("w1", 0.0)
    scheduler.admit("r1", AGENT, "c", 1.0)
    record.take()
    scheduler.admit("r2", AGENT, "c", 1.0)
    assert record.take() == [("spawn", "w2", *AGENT)]


def test_a_used_worker_serves_nobody_else() -> None:
    scheduler, record = warmed(max_workers=1)
    scheduler.admit("r1", AGENT, "c", 1.0)
    scheduler.release("w1", "its turn is over", 2.0)
    assert record.take() == [("grant", "r1", "w1"), ("kill", "w1")]
    scheduler.admit("r2", AGENT, "c", 2.0)
    assert record.take() == []
    scheduler.worker_gone("w1", 3.0)
    assert record.take() == [("spawn", "w2", *AGENT)]
    scheduler.worker_ready("w2", 4.0)
    assert record.take() == [("grant", "r2", "w2")]


def test_a_spare_of_another_key_is_not_leased() -> None:
    scheduler, record = warmed()
    scheduler.admit("r1", CHAT, "c", 1.0)
    assert record.take() == [("spawn", "w2", *CHAT)]
    scheduler.worker_ready("w2", 2.0)
    assert record.take() == [("grant", "r1", "w2"), ("spawn", "w3", *CHAT)]


def test_a_worker_that_is_starting_is_waited_for_and_not_started_twice() -> None:
    scheduler, record = make()
    scheduler.tick(0.0)
    scheduler.admit("r1", AGENT, "c", 0.0)
    assert record.take() == [("spawn", "w1", *AGENT)]
    scheduler.admit("r2", AGENT, "c", 0.0)
    assert record.take() == [("spawn", "w2", *AGENT)]


def test_a_spare_nobody_waits_for_makes_room() -> None:
    scheduler, record = warmed(max_workers=1)
    scheduler.admit("r1", CHAT, "c", 1.0)
    scheduler.tick(1.5)
    assert record.take() == [("kill", "w1")]
    scheduler.worker_gone("w1", 2.0)
    assert record.take() == [("spawn", "w2", *CHAT)]


def test_the_spare_used_longest_ago_makes_room() -> None:
    scheduler, record = make(max_workers=2, warm=(AGENT, CHAT))
    scheduler.tick(0.0)
    for worker in ("w1", "w2"):
        scheduler.worker_ready(worker, 0.0)
    scheduler.admit("r1", AGENT, "c", 1.0)
    scheduler.release("w1", "its turn is over", 2.0)
    scheduler.worker_gone("w1", 2.0)
    scheduler.worker_ready("w3", 3.0)
    record.take()
    scheduler.admit("r2", OPUS, "c", 4.0)
    assert record.take() == [("kill", "w2")]


def test_a_worker_in_use_makes_no_room() -> None:
    scheduler, record = warmed(max_workers=1)
    scheduler.admit("r1", AGENT, "c", 1.0)
    scheduler.admit("r2", CHAT, "d", 1.0)
    assert record.take() == [("grant", "r1", "w1")]
    assert scheduler.queued == 1


def test_room_that_is_coming_spares_the_spares() -> None:
    scheduler, record = make(max_workers=2, warm=(AGENT, CHAT))
    scheduler.tick(0.0)
    for worker in ("w1", "w2"):
        scheduler.worker_ready(worker, 0.0)
    scheduler.admit("r1", AGENT, "c", 1.0)
    scheduler.release("w1", "its turn is over", 2.0)
    record.take()
    scheduler.admit("r2", OPUS, "c", 2.0)
    assert record.take() == []


def test_no_more_spares_die_for_room_than_may_be_started() -> None:
    scheduler, record = make(max_workers=3, max_starting=3, spares=3)
    scheduler.tick(0.0)
    for worker in ("w1", "w2", "w3"):
        scheduler.worker_ready(worker, 0.0)
    scheduler.worker_gone("w1", 1.0, fault=WorkerDied("the claude CLI ended by itself"))
    scheduler.tick(1.5)
    record.take()
    for number in range(5):
        scheduler.admit(f"r{number}", CHAT, "c", 1.5)
    assert record.take() == []
    assert scheduler.counts()[State.SPARE] == 2


def test_spares_beyond_the_wanted_number_end() -> None:
    """Started for waiters who went away."""
    scheduler, record = make()
    for number in range(3):
        scheduler.admit(f"r{number}", AGENT, "c", 0.0)
    for number in range(3):
        scheduler.withdraw(f"r{number}", 1.0)
    for worker in ("w1", "w2", "w3"):
        scheduler.worker_ready(worker, 2.0)
    assert [told for told in record.take() if told[0] == "kill"] == [("kill", "w2"), ("kill", "w3")]


def test_spares_end_when_their_model_was_not_used_for_long() -> None:
    scheduler, record = make(warm=())
    scheduler.admit("r1", CHAT, "c", 0.0)
    scheduler.worker_ready("w1", 1.0)
    scheduler.worker_ready("w2", 2.0)
    record.take()
    assert scheduler.wake_at(2.0) == 600.0
    scheduler.tick(599.0)
    assert record.take() == []
    scheduler.tick(600.0)
    assert record.take() == [("kill", "w2")]
    assert scheduler.wake_at(600.0) is None


def test_the_model_used_last_gets_its_spare_first() -> None:
    scheduler, record = make(max_workers=2, warm=(AGENT,))
    scheduler.admit("r1", CHAT, "c", 1.0)
    scheduler.admit("r2", OPUS, "c", 2.0)
    for worker in ("w1", "w2"):
        scheduler.worker_ready(worker, 3.0)
        scheduler.release(worker, "its turn is over", 3.0)
    record.take()
    scheduler.worker_gone("w1", 4.0)
    scheduler.worker_gone("w2", 4.0)
    assert record.take() == [("spawn", "w3", *OPUS), ("spawn", "w4", *CHAT)]


def test_warm_models_never_grow_cold() -> None:
    scheduler, record = warmed()
    scheduler.tick(1e6)
    assert record.take() == []


def test_without_spares_each_request_starts_its_worker() -> None:
    scheduler, record = make(spares=0)
    scheduler.tick(0.0)
    assert record.take() == []
    scheduler.admit("r1", AGENT, "c", 0.0)
    scheduler.worker_ready("w1", 1.0)
    assert record.take() == [("spawn", "w1", *AGENT), ("grant", "r1", "w1")]
