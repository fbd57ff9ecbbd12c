"""Faults of a turn: the one retry, and what the client decides itself."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.slots import Key
from maxd.workers.faults import Fault, ModelNotFound, Overloaded, UpstreamFault, WorkerDied
from maxd.workers.turn import RoundBroken
from tests.daemon.stand_ins import FINISHED, TURN, IdleWorker
from tests.daemon.turn_bench import ROUND, STARTED, Bench, in_background, kill


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
