"""A lease between a reader that may be cancelled anywhere and a worker that may die anywhere."""

from itertools import product

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.lease import Lease
from maxd.workers.faults import Fault, Overloaded, ProtocolBroken, WorkerDied
from maxd.workers.turn import Event, TextDelta
from tests.daemon.stand_ins import FINISHED, TURN, IdleWorker


def begun() -> tuple[Lease, IdleWorker, list[Lease]]:
    closed: list[Lease] = []
    lease, worker = Lease(closed.append), IdleWorker()
    lease.grant(worker)
    lease.begin(TURN)
    return lease, worker, closed


class Reader:
    """Reads to the end, and begins again whenever `scope` is cancelled."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self.scope = trio.CancelScope()
        self.got: list[Event] = []

    async def read(self) -> None:
        while not self._lease.finished:
            with self.scope:
                self.got += await self._lease.next_events()
            self.scope = trio.CancelScope()


async def test_waits_for_its_worker() -> None:
    lease = Lease(lambda lease: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.wait)
        await wait_all_tasks_blocked()
        lease.grant(IdleWorker())
    assert "w1" in repr(lease)


async def test_a_refusal_is_raised_each_time() -> None:
    lease = Lease(lambda lease: None)
    lease.refuse(Overloaded("full"))
    for _ in range(2):
        with pytest.raises(Overloaded):
            await lease.wait()


async def test_cancelling_the_wait_keeps_the_grant() -> None:
    closed: list[Lease] = []
    lease = Lease(closed.append)
    with trio.CancelScope() as scope:
        scope.cancel()
        await lease.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.wait)
        await wait_all_tasks_blocked()
        lease.grant(IdleWorker())
        nursery.cancel_scope.cancel()
    assert closed == []
    await lease.wait()
    assert lease.worker is not None


async def test_all_that_is_ready_comes_at_once() -> None:
    lease, worker, _ = begun()
    assert worker.turns == [TURN]
    worker.outbox.send_nowait([TextDelta("a"), TextDelta("b")])
    worker.outbox.send_nowait([TextDelta("c")])
    assert await lease.next_events() == [TextDelta("a"), TextDelta("b"), TextDelta("c")]


async def test_after_the_last_event_there_is_nothing() -> None:
    lease, worker, _ = begun()
    worker.outbox.send_nowait([TextDelta("a"), FINISHED])
    worker.outbox.close()
    assert await lease.next_events() == [TextDelta("a"), FINISHED]
    assert lease.finished
    for _ in range(2):
        assert await lease.next_events() == []


async def test_a_fault_comes_after_the_events_before_it() -> None:
    lease, worker, _ = begun()
    worker.outbox.send_nowait([TextDelta("a")])
    worker.outbox.send_nowait(ProtocolBroken("nonsense"))
    worker.outbox.close()
    assert await lease.next_events() == [TextDelta("a")]
    for _ in range(2):
        with pytest.raises(ProtocolBroken):
            await lease.next_events()


async def test_an_end_without_a_word_is_a_death() -> None:
    lease, worker, _ = begun()
    worker.outbox.send_nowait([TextDelta("a")])
    worker.outbox.close()
    assert await lease.next_events() == [TextDelta("a")]
    with pytest.raises(WorkerDied):
        await lease.next_events()


@pytest.mark.parametrize("lost_first", [True, False])
async def test_a_spare_that_died_in_the_moment_of_its_grant_is_a_death(lost_first: bool) -> None:
    """It is past looking at a turn, so nobody but the pool can end the wait for its events."""
    lease, worker = Lease(lambda lease: None), IdleWorker()
    lease.grant(worker)
    if lost_first:
        lease.lose()
    lease.begin(TURN)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            with pytest.raises(WorkerDied):
                await lease.next_events()

        await wait_all_tasks_blocked()
        if not lost_first:
            lease.lose()


async def test_a_worker_that_went_after_its_last_word_is_no_death() -> None:
    lease, worker, _ = begun()
    worker.outbox.send_nowait([FINISHED])
    worker.outbox.close()
    lease.lose()
    assert await lease.next_events() == [FINISHED]
    assert await lease.next_events() == []


async def test_a_reader_cancelled_at_any_moment_loses_nothing() -> None:
    """`turn` lets the reader run until it waits; without one, both fall into the same moment."""
    for script in product(("send", "cancel", "turn"), repeat=5):
        lease, worker, _ = begun()
        reader = Reader(lease)
        sent: list[Event] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read)
            for number, action in enumerate(script):
                if action == "send":
                    sent.append(TextDelta(str(number)))
                    worker.outbox.send_nowait([sent[-1]])
                elif action == "cancel":
                    reader.scope.cancel()
                else:
                    await wait_all_tasks_blocked()
            worker.outbox.send_nowait([FINISHED])
            reader.scope.cancel()
        assert reader.got == [*sent, FINISHED], script


async def test_closing_tells_the_pool_once_and_the_worker_that_nobody_reads() -> None:
    lease, worker, closed = begun()
    lease.close()
    lease.close()
    assert closed == [lease]
    with pytest.raises(trio.BrokenResourceError):
        worker.outbox.send_nowait([FINISHED])


async def test_closing_before_the_grant_tells_the_pool_once() -> None:
    closed: list[Lease] = []
    lease = Lease(closed.append)
    lease.close()
    lease.close()
    assert closed == [lease]
    assert lease.worker is None


async def test_no_fault_is_told_while_the_turn_is_open() -> None:
    lease, _, _ = begun()
    assert lease.fault is None
    assert not lease.finished
    lease.close()
    fault: Fault | None = lease.fault
    assert fault is None
