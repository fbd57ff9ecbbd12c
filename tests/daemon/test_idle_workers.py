"""Who makes room for whom, and how a worker ends that waits for its conversation."""

from dataclasses import replace

import pytest

from maxd.workers.faults import BackendUnavailable, Fault
from maxd.workers.states import State
from tests.daemon.obedient import (
    AGENT,
    CHAT,
    DIED,
    HEAD,
    NO_START,
    OTHER,
    World,
    fail_starts,
)

# Who makes room


def test_room_is_made_by_spares_that_nobody_waits_for_and_then_by_the_longest_idle() -> None:
    world = World(max_workers=3, spares=1, warm=[AGENT], max_starting=1)
    world.obey()
    conversations = [world.converse(HEAD), world.converse(OTHER)]
    world.obey()
    spare = next(w for w in ("w1", "w2", "w3") if world.state(w) is State.SPARE)
    order = []
    for number in range(3):
        world.admit(f"r{number}", CHAT)
        order += [words[1] for words in world.obey() if words[0] == "kill"]
    assert order == [spare, *conversations]


def test_no_more_conversations_end_than_starts_may_be_made() -> None:
    world = World(max_workers=4, max_starting=1)
    workers = [world.converse(b"%d" % number) for number in range(4)]
    for number in range(3):
        world.admit(f"r{number}")
    assert world.take() == [("kill", workers[0])]
    world.tick(1.0)
    assert world.take() == []
    world.scheduler.worker_gone(workers[0], world.now)
    assert world.take() == [("spawn", "w5")]
    world.tick(1.0)
    assert world.take() == []
    world.scheduler.worker_ready("w5", world.now)
    assert world.take() == [("grant", "r0", "w5"), ("kill", workers[1])]


def test_a_chat_that_never_pauses_does_not_starve_who_waits() -> None:
    world = World(max_workers=1)
    worker = world.converse(HEAD)
    world.admit("r2", head=HEAD)
    world.admit("waits", client="d")
    world.release(worker, OTHER)
    assert world.take() == [("continue", "r2", worker), ("kill", worker)]
    world.admit("r3", head=OTHER)
    world.scheduler.worker_gone(worker, world.now)
    assert world.obey() == [("spawn", "w2"), ("grant", "waits", "w2")]


def test_idle_workers_leave_half_of_the_pool_to_spares() -> None:
    world = World(max_workers=4, spares=3, warm=[AGENT])
    world.obey()
    for number in range(8):
        world.converse(b"%d" % number)
        world.obey()
        counts = world.scheduler.counts()
        assert counts[State.IDLE] + counts[State.SPARE] == 4
    assert world.scheduler.counts()[State.SPARE] == 2
    # And those that are kept are the last ones.
    for number in range(8):
        world.admit(f"again {number}", head=b"%d" % number, whole=False)
    continued = [words[1] for words in world.take() if words[0] == "continue"]
    assert continued == ["again 6", "again 7"]


def test_a_spare_that_is_no_longer_wanted_makes_room_before_a_conversation_does() -> None:
    world = World(max_workers=4, spares=1, warm=[CHAT], warm_seconds=10.0, refill_seconds=0.5)
    world.obey()
    for number in range(2):
        world.converse(b"%d" % number, seconds=0.0)
    counts = world.scheduler.counts()
    assert (counts[State.IDLE], counts[State.SPARE]) == (2, 2)
    world.tick(9.5)
    world.admit("r1", CHAT)
    world.take()
    # The other model was last used 10 s ago, and the spare that was taken is to be replaced.
    world.tick(0.5)
    assert [words[0] for words in world.obey()] == ["kill", "spawn"]
    assert world.scheduler.counts()[State.IDLE] == 2


def test_failed_starts_end_no_conversation() -> None:
    """A spare's room is made when it can be started, and one has been left by what failed."""
    world = World(max_workers=4, spares=2, warm=[AGENT])
    world.obey()
    for number in range(3):
        world.admit(f"r{number}")
        world.obey()
    counts = world.scheduler.counts()
    assert (counts[State.LEASED], counts[State.SPARE]) == (3, 1)
    world.scheduler.worker_gone("w4", world.now, fault=NO_START)
    world.release("w1", HEAD)
    for _ in range(6):
        for action, started, *_ in world.take():
            assert action != "kill"
            if action == "spawn":
                world.scheduler.worker_gone(started, world.now, fault=NO_START)
        wake = world.scheduler.wake_at(world.now)
        assert wake is not None
        world.tick(wake - world.now)
    assert world.scheduler.fault is not None
    assert world.state("w1") is State.IDLE


# How an idle worker ends


def test_it_waits_for_its_conversation_and_not_for_ever() -> None:
    world = World(idle_seconds=100.0)
    worker = world.converse(HEAD)
    idle_since = world.now
    assert world.scheduler.wake_at(world.now) == idle_since + 100.0
    world.tick(99.9)
    assert world.take() == []
    world.now = idle_since + 100.0
    world.scheduler.tick(world.now)
    assert world.take() == [("kill", worker)]
    world.admit("r2", head=HEAD, whole=False)
    assert world.take()[-1] == ("refuse", "r2")


def test_each_turn_begins_the_wait_anew() -> None:
    world = World(idle_seconds=100.0)
    worker = world.converse(HEAD)
    world.tick(90.0)
    world.admit("r2", head=HEAD)
    world.tick(90.0)
    world.release(worker, OTHER)
    world.tick(90.0)
    assert world.take() == [("continue", "r2", worker)]
    assert world.state(worker) is State.IDLE


@pytest.mark.parametrize("fault", [DIED, None])
def test_its_end_is_no_failed_start(fault: Fault | None) -> None:
    world = World(spares=1, warm=[AGENT])
    world.obey()
    for number in range(10):
        worker = world.converse(b"%d" % number)
        world.scheduler.worker_gone(worker, world.now, fault=fault)
        assert world.scheduler.fault is None
    assert world.scheduler.counts()[State.SPARE] == 1, "starts go on at once"
    world.admit("r2", head=b"9")
    assert world.take()[0][0] == "grant"


def test_one_that_is_stuck_holds_nothing() -> None:
    world = World(max_workers=1)
    worker = world.converse(HEAD)
    world.scheduler.end(HEAD, world.now)
    world.scheduler.worker_gone(worker, world.now, stuck=True)
    world.take()
    world.admit("r2", head=HEAD)
    assert world.obey() == [("spawn", "w2"), ("grant", "r2", "w2")]


@pytest.mark.parametrize("for_good", [False, True])
def test_closing_ends_it_and_nothing_continues(for_good: bool) -> None:
    world = World()
    idle = world.converse(HEAD)
    running = world.converse(OTHER)
    world.admit("r1", head=OTHER)
    world.take()
    reason = BackendUnavailable("the claude CLI is not logged in")
    world.scheduler.close(reason, world.now, for_good=for_good)
    assert world.take() == [("kill", idle)]
    world.admit("r2", head=HEAD)
    world.admit("r3", head=HEAD, whole=False)
    world.release(running, b"newer")
    assert world.take() == [("refuse", "r2"), ("refuse", "r3"), ("kill", running)]
    assert world.faults == {"r2": reason, "r3": reason}
    world.admit("r4", head=b"newer")
    assert world.faults["r4"] is reason
    for worker in (idle, running):
        world.scheduler.worker_gone(worker, world.now)
    assert world.scheduler.counts() == dict.fromkeys(State, 0)


def test_withdrawn_in_the_moment_of_the_grant_it_is_killed() -> None:
    """Whether it has been given anything is not known here."""
    world = World()
    worker = world.converse(HEAD)
    world.admit("r2", head=HEAD)
    world.scheduler.withdraw("r2", world.now)
    assert world.take() == [("continue", "r2", worker), ("kill", worker)]
    world.admit("r3", head=HEAD)
    assert world.take() == [("spawn", "w2")]


def test_it_dies_in_the_moment_of_its_release() -> None:
    world = World()
    worker = world.converse(HEAD)
    world.admit("r2", head=HEAD)
    world.scheduler.worker_gone(worker, world.now, fault=DIED)
    world.release(worker, OTHER)
    world.take()
    world.admit("r3", head=OTHER)
    assert world.take() == [("spawn", "w2")]


def test_a_request_that_waits_for_a_start_is_not_refused_when_another_worker_ends() -> None:
    """Only the end of that start says whether starts work again."""
    world = World()
    worker = world.converse(HEAD)
    fail_starts(world)
    wake = world.scheduler.wake_at(world.now)
    assert wake is not None
    world.now = max(world.now, wake)
    world.admit("waits")
    [(_, starting)] = world.take()
    world.scheduler.worker_gone(worker, world.now, fault=DIED)
    assert world.faults.get("waits") is None
    world.scheduler.worker_ready(starting, world.now)
    assert ("grant", "waits", starting) in world.take()


def test_of_the_parked_the_longest_waiting_ends_also_when_fewer_are_allowed() -> None:
    world = World(max_workers=4, max_parked=3)
    workers = []
    for number in range(3):
        world.admit(f"r{number}")
        [(_, _, worker)] = [words for words in world.obey() if words[0] == "grant"]
        workers.append(worker)
    for worker in workers:
        world.now += 1
        world.release(worker, worker.encode(), parked=True)
        assert world.state(worker) is State.PARKED
    world.scheduler.limits = replace(world.scheduler.limits, max_parked=1)
    world.tick(0)
    assert [world.state(worker) for worker in workers] == [State.ENDING, State.ENDING, State.PARKED]
    world.obey()
    world.admit("again", head=workers[2].encode())
    assert world.take() == [("continue", "again", workers[2])]
