"""What becomes of workers whose profile is changed or removed while the daemon runs."""

from dataclasses import replace
from typing import Any

from maxd.workers.states import State
from tests.daemon.obedient import AGENT, CHAT, HEAD, OTHER, World


def adapt(
    world: World, *, old: tuple[str, ...] = (), gone: tuple[str, ...] = (), **how: Any
) -> None:
    world.scheduler.adapt(replace(world.scheduler.limits, **how), old, gone, world.now)


def test_spares_of_a_changed_profile_are_replaced_and_others_stay() -> None:
    world = World(warm=(AGENT, CHAT), spares=1)
    world.obey()
    adapt(world, old=("agent",))
    assert world.obey() == [("kill", "w1"), ("spawn", "w3")]
    assert world.state("w2") is State.SPARE
    assert world.state("w3") is State.SPARE


def test_one_that_is_still_starting_is_replaced_too() -> None:
    world = World(warm=(AGENT,), spares=1)
    assert world.take() == [("spawn", "w1")]
    adapt(world, old=("agent",))
    assert world.obey() == [("kill", "w1"), ("spawn", "w2")]
    assert world.state("w2") is State.SPARE


def test_a_conversation_goes_on_in_a_worker_of_the_new_profile() -> None:
    world = World()
    worker = world.converse(HEAD)
    kept = world.converse(OTHER, CHAT)
    adapt(world, old=("agent",))
    assert world.obey() == [("kill", worker)]
    world.admit("next", AGENT, head=HEAD)
    assert [words[0] for words in world.obey()] == ["spawn", "grant"]
    world.admit("other", CHAT, head=OTHER)
    assert world.obey() == [("continue", "other", kept)]


def test_a_running_turn_ends_as_it_began_and_its_worker_after_it() -> None:
    world = World()
    world.admit("turn")
    [_, (_, _, worker)] = world.obey()
    adapt(world, old=("agent",))
    assert world.obey() == []
    assert world.state(worker) is State.LEASED
    world.release(worker, HEAD)
    assert world.obey() == [("kill", worker)]


def test_parked_workers_end_and_a_lower_limit_of_them_counts_at_once() -> None:
    world = World()
    worker = world.converse(HEAD)
    other = world.converse(OTHER, CHAT)
    for head, key, holder in ((HEAD, AGENT, worker), (OTHER, CHAT, other)):
        world.admit(f"calls {head!r}", key, head=head)
        world.now += 1
        world.release(holder, head, parked=True)
    world.obey()
    adapt(world, max_parked=1)
    assert world.obey() == [("kill", worker)]
    adapt(world, old=("chat",))
    assert world.obey() == [("kill", other)]


def test_who_waits_for_a_session_is_given_one_of_the_new_profile() -> None:
    world = World()
    world.admit("resumes", AGENT, session="s")
    assert world.take() == [("spawn", "w1")]
    adapt(world, old=("agent",))
    assert world.take() == [("kill", "w1")]
    world.scheduler.worker_gone("w1", world.now)
    assert world.obey() == [("spawn", "w2"), ("continue", "resumes", "w2")]


def test_of_a_removed_profile_nothing_is_kept() -> None:
    world = World(spares=1)
    world.converse(HEAD)
    world.converse(OTHER, CHAT)
    assert len(world.scheduler.slots.of(State.SPARE)) == 2
    adapt(world, gone=("agent",))
    world.obey()
    keys = {slot.key for slot in world.scheduler.slots}
    assert keys == {CHAT}


def test_keys_in_use_are_kept_warm_for_as_long_as_is_set_now() -> None:
    world = World(spares=1, warm_seconds=600.0)
    world.admit("turn")
    world.obey()
    adapt(world, warm_seconds=10.0)
    assert world.obey() == []
    world.tick(10.0)
    assert [words[0] for words in world.obey()] == ["kill"], "the spare"
