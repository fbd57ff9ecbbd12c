"""The scheduler's cases. What it does is read off a list of what its effects were told."""

import time
from collections.abc import Sequence

import pytest

from maxd.daemon.scheduler import Scheduler
from maxd.daemon.slots import Key, Limits
from maxd.workers.faults import BackendUnavailable, Fault, Overloaded, WorkerDied, WorkerStartFailed
from maxd.workers.states import State

AGENT = Key("agent", "sonnet")
CHAT = Key("chat", "sonnet")
OPUS = Key("agent", "opus")
NO_START = WorkerStartFailed("the claude CLI ended before it was ready")


class Record:
    """Effects that only write down; `take` returns what is new."""

    def __init__(self) -> None:
        self._told: list[tuple[str, ...]] = []
        self.faults: dict[str, Fault] = {}
        self.keys: dict[str, Key] = {}

    def spawn(self, key: Key, session: str | None) -> str:
        worker = f"w{len(self.keys) + 1}"
        self.keys[worker] = key
        self._told.append(("spawn", worker, *key))
        return worker

    def grant(self, request: str, worker: str, *, continues: bool, resets: bool) -> None:
        self._told.append(
            ("continue" if continues else "reset" if resets else "grant", request, worker)
        )

    def refuse(self, request: str, fault: Fault) -> None:
        self.faults[request] = fault
        self._told.append(("refuse", request))

    def kill(self, worker: str, reason: str) -> None:
        self._told.append(("kill", worker))

    def take(self) -> list[tuple[str, ...]]:
        told, self._told = self._told, []
        return told


def make(
    *,
    max_workers: int = 4,
    max_starting: int = 4,
    spares: int = 1,
    warm: Sequence[Key] = (AGENT,),
    warm_seconds: float = 600.0,
    queue_length: int = 100,
    queue_seconds: float = 60.0,
    refill_seconds: float = 0.0,
) -> tuple[Scheduler, Record]:
    record = Record()
    limits = Limits(
        max_workers=max_workers,
        max_starting=max_starting,
        spares=spares,
        warm=tuple(warm),
        warm_seconds=warm_seconds,
        queue_length=queue_length,
        queue_seconds=queue_seconds,
        refill_seconds=refill_seconds,
    )
    return Scheduler(limits, record), record


def warmed(*, max_workers: int = 4, queue_seconds: float = 60.0) -> tuple[Scheduler, Record]:
    """One spare, w1, of AGENT."""
    scheduler, record = make(max_workers=max_workers, queue_seconds=queue_seconds)
    scheduler.tick(0.0)
    scheduler.worker_ready("w1", 0.0)
    record.take()
    return scheduler, record


# Spares and grants


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


# Workers that die


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


def fail_starts(scheduler: Scheduler, record: Record, until: float, fault: Fault) -> int:
    """Let every start fail 0.2 s after it; return how many there were."""
    now, starts = 0.0, 0
    scheduler.tick(now)
    while now < until:
        spawned = [told[1] for told in record.take() if told[0] == "spawn"]
        starts += len(spawned)
        for worker in spawned:
            scheduler.worker_gone(worker, now + 0.2, fault=fault)
        wake = scheduler.wake_at(now + 0.2)
        assert wake is None or wake > now + 0.2
        now = until if wake is None else wake
        scheduler.tick(now)
    return starts


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


# Closed and open


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


# Model ids


def test_forgetting_a_model_leaves_no_spares_of_it() -> None:
    scheduler, record = make(warm=())
    scheduler.admit("r1", OPUS, "c", 0.0)
    scheduler.worker_ready("w1", 1.0)
    scheduler.release("w1", "its turn was cut short", 2.0)
    scheduler.forget(OPUS, 2.0)
    scheduler.worker_gone("w1", 3.0)
    scheduler.worker_ready("w2", 3.0)
    assert record.take()[-1] == ("kill", "w2")
    scheduler.worker_gone("w2", 4.0)
    assert record.take() == []
    assert scheduler.counts() == dict.fromkeys(State, 0)


def test_a_warm_model_is_not_forgotten() -> None:
    scheduler, record = warmed()
    scheduler.forget(AGENT, 1.0)
    assert record.take() == []


def test_many_model_ids_in_a_row_end_with_the_warm_spares_only() -> None:
    scheduler, record = make(max_workers=4)
    scheduler.tick(0.0)
    now = 0.0

    def obey() -> None:
        for told in iter(record.take, []):
            for action, name, *_ in told:
                if action == "spawn":
                    scheduler.worker_ready(name, now)
                elif action == "grant":
                    leased.append(_[0])
                elif action == "kill":
                    scheduler.worker_gone(name, now)

    for number in range(200):
        now += 1.0
        leased: list[str] = []
        scheduler.admit(f"r{number}", Key("agent", f"claude-{number}"), "c", now)
        obey()
        assert len(leased) == 1
        scheduler.release(leased[0], "its turn is over", now)
        obey()
        assert sum(scheduler.counts().values()) <= 4
    scheduler.tick(wake := now + 600.0)
    obey()
    scheduler.tick(wake)
    obey()
    assert scheduler.counts() == dict.fromkeys(State, 0) | {State.SPARE: 1}
    assert scheduler.wake_at(wake) is None


def test_made_up_model_ids_take_no_memory() -> None:
    scheduler, _ = make(max_workers=4, queue_length=10)
    scheduler.close(BackendUnavailable("the claude CLI is not logged in"), 0.0)
    for number in range(1000):
        scheduler.admit(f"r{number}", Key("agent", f"claude-{number}"), "c", 1.0)
    scheduler.open(1.0)
    for number in range(4):
        scheduler.admit(f"s{number}", Key("agent", f"claude-{number}"), "c", 2.0)
        scheduler.withdraw(f"s{number}", 2.0)
    assert len(scheduler._recent.used) <= 4
    assert len(scheduler._needed) == 0


def test_one_worker_serves_two_models_in_turn() -> None:
    scheduler, record = make(max_workers=1, warm=(AGENT,))
    scheduler.tick(0.0)
    for number in range(20):
        scheduler.admit(f"r{number}", (AGENT, CHAT)[number % 2], f"c{number % 3}", 0.0)
    granted = []
    while told := record.take():
        for action, name, *rest in told:
            if action == "spawn":
                scheduler.worker_ready(name, 1.0)
            elif action == "grant":
                granted.append(name)
                scheduler.release(rest[0], "its turn is over", 1.0)
            elif action == "kill":
                scheduler.worker_gone(name, 1.0)
    assert len(granted) == 20


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
