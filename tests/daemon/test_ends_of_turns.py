"""Turns are counted until they end, whatever their clients do meanwhile."""

from collections.abc import Callable

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.conversations import Conversations
from maxd.daemon.turns import Turns
from maxd.workers.faults import Overloaded
from maxd.workers.profiles import CHAT
from tests.daemon.stand_ins import FINISHED, TURN, AskedPool, IdleWorker, logger


class Bench:
    """Turns of a profile that finishes what its clients leave, and how many are counted."""

    def __init__(self) -> None:
        self.pool = AskedPool(lambda lease: None)
        profile = replace(CHAT, on_disconnect="finish")
        self.turns = Turns(self.pool.as_pool, {CHAT.name: profile}, Conversations(), logger()[0])
        self.counted = 0

    def count_in(self) -> Callable[[], None]:
        self.counted += 1

        def count_out() -> None:
            self.counted -= 1

        return count_out

    def leave(self) -> IdleWorker:
        """A client asks, is given a worker and goes away."""
        # An exception is how the end of a connection reaches the block.
        with (
            pytest.raises(ConnectionResetError),
            self.turns.run(TURN, client="c", request_id="q", on_end=self.count_in()),
        ):
            raise ConnectionResetError
        worker = IdleWorker()
        self.pool.leases[-1].grant(worker)
        return worker


async def test_a_turn_that_its_client_left_counts_until_it_ends(nursery: trio.Nursery) -> None:
    bench = Bench()
    nursery.start_soon(bench.turns.left.run)
    worker = bench.leave()
    await wait_all_tasks_blocked()
    assert bench.counted == 1
    worker.outbox.send_nowait([FINISHED])
    worker.outbox.close()
    await wait_all_tasks_blocked()
    assert bench.counted == 0
    nursery.cancel_scope.cancel()


async def test_one_that_is_not_finished_for_nobody_counts_no_more() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.turns.left.run)
        bench.leave()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert bench.counted == 0


async def test_a_turn_that_is_refused_does_not_count() -> None:
    bench = Bench()
    bench.turns.refusal = Overloaded("stopping")
    with (
        pytest.raises(Overloaded),
        bench.turns.run(TURN, client="c", request_id="q", on_end=bench.count_in()),
    ):
        pass
    assert bench.counted == 0


async def test_a_turn_whose_client_has_its_answer_ends_with_the_request() -> None:
    bench = Bench()
    with bench.turns.run(TURN, client="c", request_id="q", on_end=bench.count_in()) as stream:
        worker = IdleWorker()
        bench.pool.leases[-1].grant(worker)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.next_events)
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([FINISHED])
            worker.outbox.close()
        assert bench.counted == 1
    assert bench.counted == 0
