"""Turns: what reaches the client, the one retry, and that every worker is given back once."""

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.conversation import Conversation
from maxd.daemon.conversations import Conversations
from maxd.daemon.lease import Lease
from maxd.daemon.slots import Key
from maxd.daemon.turn_stream import TurnStream
from maxd.daemon.turns import Turns
from maxd.workers.faults import Fault, ModelNotFound, Overloaded, UpstreamFault, WorkerDied
from maxd.workers.profiles import BUILT_IN
from maxd.workers.turn import Event, RoundBroken, RoundEnded, RoundStarted, TextDelta, Turn
from tests.daemon.stand_ins import FINISHED, TURN, AskedPool, IdleWorker, logger

AGENT_TURN = Turn(profile="agent", model="sonnet", messages=TURN.messages)
STARTED = RoundStarted("claude-sonnet-4-7")
ROUND: list[Event] = [STARTED, TextDelta("It is 42."), RoundEnded("end_turn")]


class Bench:
    """Turns over a pool that only remembers what it was asked."""

    def __init__(
        self,
        on_ask: Callable[[Lease], None] = lambda lease: None,
        conversations: Conversations | None = None,
    ) -> None:
        self.pool = AskedPool(on_ask)
        self.faults: list[Fault] = []
        log, self._log = logger()
        self.turns = Turns(
            self.pool.as_pool,
            BUILT_IN,
            Conversations() if conversations is None else conversations,
            log,
            on_fault=self.faults.append,
        )

    @contextmanager
    def run(self, turn: Turn = TURN) -> Iterator[TurnStream]:
        with self.turns.run(turn, client="c", request_id="q1") as stream:
            yield stream

    @property
    def logged(self) -> MutableMapping[str, Any]:
        """What the log was told of the one turn."""
        [entry] = [entry for entry in self._log.entries if entry["event"] == "turn"]
        return entry

    def grant(self) -> IdleWorker:
        """Grant the newest lease."""
        worker = IdleWorker(len(self.pool.leases))
        self.pool.leases[-1].grant(worker)
        return worker

    def assert_given_back_once(self) -> None:
        assert len(self.pool.given_back) == len(self.pool.leases)
        assert set(self.pool.given_back) == set(self.pool.leases)
        assert self.turns.running == 0


def kill(worker: IdleWorker) -> None:
    worker.outbox.send_nowait(WorkerDied("the claude CLI ended in the middle of the turn"))
    worker.outbox.close()


async def in_background(nursery: trio.Nursery, stream: TurnStream) -> list[list[Event] | Fault]:
    """Let a task wait for the next events; return where it will put the outcome."""
    outcome: list[list[Event] | Fault] = []

    async def read() -> None:
        try:
            outcome.append(await stream.next_events())
        except Fault as fault:
            outcome.append(fault)

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    return outcome


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


# Death and the one retry


async def test_a_worker_that_dies_before_anything_was_accepted_is_replaced() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        with bench.run() as stream:
            outcome = await in_background(nursery, stream)
            first = bench.grant()
            await wait_all_tasks_blocked()
            kill(first)
            await wait_all_tasks_blocked()
            assert bench.pool.given_back == bench.pool.leases[:1]
            assert bench.pool.asked[1] == (Key("chat", "sonnet"), "c", True)
            second = bench.grant()
            await wait_all_tasks_blocked()
            assert second.turns == [TURN]
            second.outbox.send_nowait([*ROUND, FINISHED])
            await wait_all_tasks_blocked()
            assert outcome == [[*ROUND, FINISHED]]
    bench.assert_given_back_once()
    assert bench.logged["attempts"] == 2


async def test_it_is_replaced_only_once() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        with bench.run() as stream:
            outcome = await in_background(nursery, stream)
            for _ in range(2):
                worker = bench.grant()
                await wait_all_tasks_blocked()
                kill(worker)
                await wait_all_tasks_blocked()
            assert isinstance(outcome[0], WorkerDied)
    assert len(bench.pool.asked) == 2
    bench.assert_given_back_once()
    assert bench.faults == outcome


@pytest.mark.parametrize("apart", [True, False])
async def test_a_death_after_the_acceptance_is_the_clients_to_decide(apart: bool) -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        with bench.run() as stream:
            outcome = await in_background(nursery, stream)
            worker = bench.grant()
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([STARTED])
            if apart:
                await wait_all_tasks_blocked()
            kill(worker)
            await wait_all_tasks_blocked()
            assert outcome == [[STARTED]]
            with pytest.raises(WorkerDied):
                await stream.next_events()
    assert len(bench.pool.asked) == 1
    bench.assert_given_back_once()


@pytest.mark.parametrize(
    "fault", [UpstreamFault("failed"), ModelNotFound("unknown"), Overloaded("busy")]
)
async def test_other_faults_are_not_tried_again(fault: Fault) -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        with bench.run() as stream:
            outcome = await in_background(nursery, stream)
            worker = bench.grant()
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait(fault)
            await wait_all_tasks_blocked()
            assert outcome == [fault]
    assert len(bench.pool.asked) == 1
    assert bench.pool.given_back[0].fault is fault
    bench.assert_given_back_once()


async def test_a_refusal_is_told_as_it_is() -> None:
    bench = Bench(on_ask=lambda lease: lease.refuse(Overloaded("too many requests are waiting")))
    with bench.run() as stream, pytest.raises(Overloaded):
        await stream.next_events()
    bench.assert_given_back_once()
    assert bench.logged["outcome"] == "overloaded"


async def test_a_failed_turn_stays_failed() -> None:
    bench = Bench(on_ask=lambda lease: lease.grant(IdleWorker()))
    async with trio.open_nursery() as nursery:
        with bench.run() as stream:
            outcome = await in_background(nursery, stream)
            worker = bench.pool.leases[0].worker
            assert isinstance(worker, IdleWorker)
            worker.outbox.send_nowait(ROUND[:2])
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([RoundBroken()])
            for _ in range(2):
                worker.outbox.send_nowait([*ROUND, FINISHED])
                with pytest.raises(UpstreamFault):
                    await stream.next_events()
            assert outcome == [ROUND[:2]]
    assert bench.logged["outcome"] == "upstream_error"


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
