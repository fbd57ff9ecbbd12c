"""Which request gets which idle worker."""

from maxd.workers.faults import ConversationGone, WorkerStartFailed
from maxd.workers.states import State
from tests.daemon.obedient import AGENT, CHAT, HEAD, OTHER, World, fail_starts


def test_the_next_turn_gets_the_worker_that_holds_its_conversation() -> None:
    world = World()
    worker = world.converse(HEAD)
    world.admit("r2", head=HEAD)
    assert world.take() == [("continue", "r2", worker)]
    assert world.state(worker) is State.LEASED


def test_another_head_gets_another_worker() -> None:
    world = World()
    worker = world.converse(HEAD)
    world.admit("r2", head=OTHER)
    assert world.obey() == [("spawn", "w2"), ("grant", "r2", "w2")]
    assert world.state(worker) is State.IDLE


def test_a_head_is_claimed_once() -> None:
    world = World()
    worker = world.converse(HEAD)
    for request in ("r2", "r3"):
        world.admit(request, head=HEAD)
    told = world.obey()
    assert told == [("continue", "r2", worker), ("spawn", "w2"), ("grant", "r3", "w2")]


def test_of_two_workers_with_equal_heads_each_is_claimed_once() -> None:
    world = World()
    world.admit("r1")
    world.admit("r2")
    world.obey()
    for worker in ("w1", "w2"):
        world.release(worker, HEAD)
    for request in ("r3", "r4", "r5"):
        world.admit(request, head=HEAD)
    told = world.take()
    assert {words[2] for words in told[:2]} == {"w1", "w2"}
    assert [words[:2] for words in told] == [
        ("continue", "r3"),
        ("continue", "r4"),
        ("spawn", "w3"),
    ]


def test_what_a_worker_held_before_its_last_turn_is_gone() -> None:
    world = World()
    worker = world.converse(HEAD)
    world.admit("r2", head=HEAD)
    world.release(worker, OTHER)
    world.take()
    world.admit("r3", head=HEAD)
    assert world.take() == [("spawn", "w2")]
    world.admit("r4", head=OTHER)
    assert world.take() == [("continue", "r4", worker)]


def test_a_turn_that_failed_leaves_nothing_to_continue() -> None:
    world = World()
    worker = world.converse(HEAD)
    world.admit("r2", head=HEAD)
    world.release(worker)
    assert world.take() == [("continue", "r2", worker), ("kill", worker)]
    world.admit("r3", head=HEAD)
    assert not [words for words in world.obey() if words[0] == "continue"]


def test_a_full_queue_does_not_stop_who_need_not_wait() -> None:
    world = World(max_workers=3, queue_length=1)
    worker = world.converse(HEAD)
    world.admit("long")
    world.obey()
    world.admit("waits")
    world.admit("refused")
    assert world.take() == [("spawn", "w3"), ("refuse", "refused")]
    world.admit("r2", head=HEAD)
    assert world.take() == [("continue", "r2", worker)]
    assert world.scheduler.queued == 1


def test_no_time_to_wait_does_not_stop_who_need_not_wait() -> None:
    world = World(queue_seconds=0.0, spares=1, warm=[AGENT])
    world.obey()
    worker = world.converse(HEAD)
    world.admit("r2", head=HEAD)
    assert world.take()[0] == ("continue", "r2", worker)


def test_a_conversation_goes_on_though_nothing_can_be_started() -> None:
    world = World()
    worker = world.converse(HEAD)
    fail_starts(world)
    assert isinstance(world.scheduler.fault, WorkerStartFailed)
    world.admit("new")
    assert isinstance(world.faults["new"], WorkerStartFailed)
    world.admit("r2", head=HEAD)
    assert world.take()[-1] == ("continue", "r2", worker)


def test_one_worker_is_enough_for_a_chat_of_many_turns() -> None:
    world = World(max_workers=1, spares=1, warm=[AGENT, CHAT])
    world.obey()
    worker = world.converse(b"0", CHAT)
    for number in range(50):
        world.admit(f"r{number}", CHAT, head=b"%d" % number)
        world.now += 1.0
        world.release(worker, b"%d" % (number + 1))
        assert world.obey() == [("continue", f"r{number}", worker)]


def test_new_messages_alone_are_answered_by_that_worker_or_by_none() -> None:
    world = World(spares=1, warm=[AGENT])
    world.obey()
    worker = world.converse(HEAD)
    world.obey()
    world.admit("r2", head=HEAD, whole=False)
    world.admit("r3", head=HEAD, whole=False)
    assert world.take() == [("continue", "r2", worker), ("refuse", "r3")]
    assert isinstance(world.faults["r3"], ConversationGone)


def test_a_lenient_head_is_as_good_where_there_is_no_exact_one() -> None:
    world = World()
    lenient = world.converse(b"exact 1", lenient=HEAD)
    exact = world.converse(HEAD)
    for request in ("r2", "r3", "r4"):
        world.admit(request, head=HEAD)
    told = [words for words in world.obey() if words[0] != "spawn"]
    assert told == [
        ("continue", "r2", exact),
        ("continue", "r3", lenient),
        ("grant", "r4", "w3"),
    ]


def test_a_worker_with_two_heads_is_claimed_once() -> None:
    world = World()
    worker = world.converse(HEAD, lenient=OTHER)
    for request, head in (("r2", OTHER), ("r3", HEAD), ("r4", OTHER)):
        world.admit(request, head=head, whole=False)
    assert world.take() == [("continue", "r2", worker), ("refuse", "r3"), ("refuse", "r4")]
    world.release(worker, b"newer")
    world.admit("r5", head=OTHER, whole=False)
    assert world.take() == [("refuse", "r5")]


def test_a_deleted_conversation_does_not_end_one_that_is_vaguely_alike() -> None:
    world = World()
    alike = world.converse(OTHER, lenient=HEAD)
    world.scheduler.end(HEAD, world.now)
    assert world.state(alike) is State.IDLE
    deleted = world.converse(HEAD)
    world.scheduler.end(HEAD, world.now)
    assert (world.state(alike), world.state(deleted)) == (State.IDLE, State.ENDING)
