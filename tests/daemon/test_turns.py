"""Turns: what reaches the client, how they are left, and that every worker is given back once."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.conversation import Conversation
from maxd.daemon.conversations import Conversations
from maxd.daemon.slots import Key
from maxd.workers.faults import Overloaded
from maxd.workers.turn import Event, RoundEnded, TextDelta, Turn
from tests.daemon.stand_ins import FINISHED, TURN, IdleWorker
from tests.daemon.turn_bench import ROUND, STARTED, Bench, in_background, kill

AGENT_TURN = Turn(profile="agent", model="sonnet", messages=TURN.messages)


# The way of a turn


async def test_a_turn_from_the_queue_to_its_end() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        with bench.run() as stream:
            outcome = await in_background(nursery, stream)
            assert bench.pool.asked == [(Key("chat", "sonnet"), "c", False)]
            worker = bench.grant()
            await wait_all_tasks_blocked()
            assert worker.turns == [TURN]
            worker.outbox.send_nowait(ROUND)
            await wait_all_tasks_blocked()
            assert outcome == [ROUND]
            assert not stream.finished
            worker.outbox.send_nowait([FINISHED])
            worker.outbox.close()
            assert await stream.next_events() == [FINISHED]
            assert stream.finished
            assert await stream.next_events() == []
    bench.assert_given_back_once()
    assert bench.faults == []


async def test_the_profile_decides_what_is_released() -> None:
    bench = Bench()
    with bench.run(AGENT_TURN) as stream:
        worker = bench.grant()
        stream_events: list[Event] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.next_events()
        assert worker.turns == []
        async with trio.open_nursery() as nursery:
            outcome = await in_background(nursery, stream)
            worker.outbox.send_nowait([TextDelta("Let me look.")])
            await wait_all_tasks_blocked()
            assert outcome == []
            worker.outbox.send_nowait([RoundEnded("tool_use"), *ROUND, FINISHED])
        [released] = outcome
        assert isinstance(released, list)
        stream_events += released
    assert stream_events == [
        RoundEnded("tool_use"),
        STARTED,
        RoundEnded("end_turn"),
        TextDelta("It is 42."),
        FINISHED,
    ]


async def test_the_log_says_how_it_went_and_nothing_of_what_was_said() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        with bench.run() as stream:
            outcome = await in_background(nursery, stream)
            worker = bench.grant()
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([*ROUND, FINISHED])
            await wait_all_tasks_blocked()
            assert outcome == [[*ROUND, FINISHED]]
    entry = bench.logged
    assert entry["outcome"] == "finished"
    assert entry["worker"] == "w1"
    assert entry["output_tokens"] == 3
    assert "Hello" not in repr(entry)
    assert "It is" not in repr(entry)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_turn_that_is_left_early_is_logged_as_cancelled(begun: bool) -> None:
    bench = Bench(on_ask=lambda lease: lease.grant(IdleWorker()) if begun else None)
    with bench.run() as stream:
        async with trio.open_nursery() as nursery:
            await in_background(nursery, stream)
            nursery.cancel_scope.cancel()
    assert bench.logged["outcome"] == "cancelled"
    bench.assert_given_back_once()


# Cancelled and stopped


async def test_heartbeats_keep_the_place_in_the_queue(autojump_clock: trio.abc.Clock) -> None:
    bench = Bench()
    with bench.run() as stream:
        for _ in range(10):
            with trio.move_on_after(15) as patience:
                await stream.next_events()
            assert patience.cancelled_caught
        assert len(bench.pool.asked) == 1
        worker = bench.grant()
        for _ in range(10):
            with trio.move_on_after(15):
                await stream.next_events()
        assert worker.turns == [TURN]
        worker.outbox.send_nowait([FINISHED])
        assert await stream.next_events() == [FINISHED]
    bench.assert_given_back_once()
    assert bench.logged["queued"] == 150.0
    assert bench.logged["total"] == 300.0


async def test_stopped_in_the_queue_while_streaming_and_between_two_reads() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        with bench.run() as streaming, bench.run() as queued, bench.run() as idle:
            bench.pool.leases[0].grant(IdleWorker())
            outcomes = [await in_background(nursery, stream) for stream in (streaming, queued)]
            assert bench.turns.running == 3
            stopping = Overloaded("maxd is stopping")
            bench.turns.stop(stopping)
            await wait_all_tasks_blocked()
            for outcome in outcomes:
                [fault] = outcome
                assert isinstance(fault, Overloaded)
                assert fault.message == stopping.message
                assert fault.retry_after == stopping.retry_after
            for stream in (idle, idle, queued):
                with pytest.raises(Overloaded):
                    await stream.next_events()
    bench.assert_given_back_once()


async def test_each_turn_gets_a_fault_of_its_own() -> None:
    """One that all raise would keep the frames, and the requests, of all of them."""
    bench = Bench()
    stopping = Overloaded("maxd is stopping")
    for _ in range(3):
        with bench.run() as stream:
            bench.turns.stop(stopping)
            with pytest.raises(Overloaded):
                await stream.next_events()
    assert stopping.__traceback__ is None
    assert len(set(map(id, bench.faults))) == 3


async def test_events_in_the_moment_of_the_stop_are_still_told() -> None:
    bench = Bench(on_ask=lambda lease: lease.grant(IdleWorker()))
    async with trio.open_nursery() as nursery:
        with bench.run() as stream:
            outcome = await in_background(nursery, stream)
            worker = bench.pool.leases[0].worker
            assert isinstance(worker, IdleWorker)
            worker.outbox.send_nowait([*ROUND, FINISHED])
            bench.turns.stop(Overloaded("maxd is stopping"))
            await wait_all_tasks_blocked()
            assert outcome == [[*ROUND, FINISHED]]
            assert stream.finished
    bench.assert_given_back_once()


async def test_stopping_does_not_hide_a_cancellation_from_outside() -> None:
    bench = Bench()
    with bench.run() as stream, trio.CancelScope() as outer:
        outer.cancel()
        bench.turns.stop(Overloaded("maxd is stopping"))
        with pytest.raises(Overloaded):
            await stream.next_events()
    with bench.run() as stream, trio.CancelScope() as outer:
        outer.cancel()
        await stream.next_events()
    assert outer.cancelled_caught
    bench.assert_given_back_once()


@pytest.mark.parametrize("steps", range(6))
async def test_left_at_any_step_every_worker_is_given_back_once(steps: int) -> None:
    bench = Bench()
    with bench.run() as stream:
        async with trio.open_nursery() as nursery:
            await in_background(nursery, stream)
            worker = IdleWorker()
            for step in range(steps):
                if step in (0, 2):
                    worker = bench.grant()
                elif step == 3:
                    worker.outbox.send_nowait([STARTED])
                else:
                    kill(worker)
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    bench.assert_given_back_once()


async def test_an_error_of_the_front_gives_the_worker_back_too() -> None:
    bench = Bench()

    def fail() -> None:
        with bench.run():
            bench.grant()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    bench.assert_given_back_once()


async def test_a_mistake_of_ours_costs_neither_the_worker_nor_the_conversation() -> None:
    def fail(conversation: Conversation) -> None:
        raise ZeroDivisionError

    bench = Bench(conversations=Conversations(on_change=fail))

    async def ask() -> None:
        turns = bench.turns.run(TURN, client="c", request_id="q1", conversation_id="mine")
        async with trio.open_nursery() as nursery:
            with turns as stream:
                outcome = await in_background(nursery, stream)
                worker = bench.grant()
                await wait_all_tasks_blocked()
                worker.outbox.send_nowait([FINISHED])
                await wait_all_tasks_blocked()
                assert outcome == [[FINISHED]]

    # Not refused as busy.
    for _ in range(2):
        with pytest.RaisesGroup(ZeroDivisionError):
            await ask()
        bench.assert_given_back_once()
        assert bench.pool.given_back[-1].head is None
        with trio.fail_after(1):
            await bench.turns.wait_idle()


# Idle


async def test_idle_means_that_no_turn_runs() -> None:
    bench = Bench()
    with trio.fail_after(1):
        await bench.turns.wait_idle()
    idle = trio.Event()

    async def wait() -> None:
        await bench.turns.wait_idle()
        idle.set()

    async with trio.open_nursery() as nursery:
        with bench.run():
            nursery.start_soon(wait)
            with bench.run():
                await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
            assert not idle.is_set()
        await idle.wait()
    with bench.run():
        with trio.CancelScope() as scope:
            scope.cancel()
            await bench.turns.wait_idle()
        assert scope.cancelled_caught
