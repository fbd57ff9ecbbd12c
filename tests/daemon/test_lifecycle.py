"""The drain, in virtual time: what the first signal lets go on, and what the second does not."""

import signal
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.conversations import Conversations
from maxd.daemon.lifecycle import Stopped, drain_on_signal
from maxd.daemon.turns import Turns
from maxd.workers.faults import Fault, Overloaded
from maxd.workers.profiles import BUILT_IN
from tests.daemon.stand_ins import FINISHED, TURN, AskedPool, IdleWorker, logger

DRAIN_SECONDS = 30.0
SIGNALS = [signal.SIGTERM, signal.SIGINT]


class Daemon:
    """The parts that take part in the drain, and when serving was stopped."""

    def __init__(self) -> None:
        self.pool = AskedPool(on_ask=lambda lease: lease.grant(IdleWorker()))
        log, self.log = logger()
        self.turns = Turns(self.pool.as_pool, BUILT_IN, Conversations(), log)
        self.stopped = trio.Event()
        self.stopped_at: float | None = None
        self._logger = log

    async def start(self, nursery: trio.Nursery, drain_seconds: float = DRAIN_SECONDS) -> None:
        async def drain(task_status: trio.TaskStatus[None]) -> None:
            await drain_on_signal(
                self.pool.as_pool,
                self.turns,
                drain_seconds=drain_seconds,
                stop_serving=self._stop_serving,
                log=self._logger,
                task_status=task_status,
            )

        await nursery.start(drain)

    def _stop_serving(self) -> None:
        self.stopped_at = trio.current_time()
        self.stopped.set()

    async def turn(self, seconds: float, end: Callable[[Fault | None], None]) -> None:
        """Run a turn that is finished after `seconds`; tell `end` how it ended."""
        with self.turns.run(TURN, client="c", request_id="q") as stream:
            worker = self.pool.leases[-1].worker
            assert isinstance(worker, IdleWorker)
            try:
                with trio.move_on_after(seconds):
                    await stream.next_events()
                worker.outbox.send_nowait([FINISHED])
                await stream.next_events()
                assert stream.finished
                end(None)
            except Fault as fault:
                end(fault)


@pytest.mark.parametrize("number", SIGNALS)
async def test_with_nothing_to_do_it_stops_at_once(
    number: signal.Signals, autojump_clock: trio.abc.Clock
) -> None:
    daemon = Daemon()
    async with trio.open_nursery() as nursery:
        await daemon.start(nursery)
        signal.raise_signal(number)
        await daemon.stopped.wait()
        nursery.cancel_scope.cancel()
    assert daemon.stopped_at == 0.0
    [(fault, for_good)] = daemon.pool.closed
    assert isinstance(fault, Overloaded)
    assert fault.retry_after is not None
    assert for_good


async def test_running_turns_are_let_finish(autojump_clock: trio.abc.Clock) -> None:
    daemon = Daemon()
    ends: list[Fault | None] = []
    async with trio.open_nursery() as nursery:
        await daemon.start(nursery)
        for seconds in (5.0, 20.0):
            nursery.start_soon(daemon.turn, seconds, ends.append)
        await wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGTERM)
        await daemon.stopped.wait()
        nursery.cancel_scope.cancel()
    assert ends == [None, None]
    assert daemon.stopped_at == 20.0


async def test_a_turn_that_waits_for_a_worker_has_begun(autojump_clock: trio.abc.Clock) -> None:
    daemon = Daemon()
    daemon.pool = AskedPool()
    log, _ = logger()
    daemon.turns = Turns(daemon.pool.as_pool, BUILT_IN, Conversations(), log)
    async with trio.open_nursery() as nursery:
        await daemon.start(nursery)
        with daemon.turns.run(TURN, client="c", request_id="q") as stream:
            signal.raise_signal(signal.SIGTERM)
            await wait_all_tasks_blocked()
            with (
                pytest.raises(Overloaded, match="stopping"),
                daemon.turns.run(TURN, client="c", request_id="late"),
            ):
                raise AssertionError
            assert daemon.pool.closed == []
            worker = IdleWorker()
            daemon.pool.leases[-1].grant(worker)
            nursery.start_soon(stream.next_events)
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([FINISHED])
            await wait_all_tasks_blocked()
            assert stream.finished
        await daemon.stopped.wait()
        nursery.cancel_scope.cancel()
    assert daemon.stopped_at == 0.0


async def test_turns_that_take_longer_are_told_before_the_end(
    autojump_clock: trio.abc.Clock,
) -> None:
    daemon = Daemon()
    ends: list[Fault | None] = []
    async with trio.open_nursery() as nursery:
        await daemon.start(nursery)
        nursery.start_soon(daemon.turn, 5.0, ends.append)
        nursery.start_soon(daemon.turn, 3600.0, ends.append)
        await wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGTERM)
        await daemon.stopped.wait()
        nursery.cancel_scope.cancel()
    assert ends[0] is None
    assert isinstance(ends[1], Overloaded)
    assert daemon.stopped_at == DRAIN_SECONDS - 1.0
    assert any(entry["event"] == "turns cut short" for entry in daemon.log.entries)


async def test_a_front_that_does_not_let_go_of_a_turn_is_not_waited_for(
    autojump_clock: trio.abc.Clock,
) -> None:
    daemon = Daemon()
    async with trio.open_nursery() as nursery:
        await daemon.start(nursery)
        with daemon.turns.run(TURN, client="c", request_id="q"):
            signal.raise_signal(signal.SIGTERM)
            await daemon.stopped.wait()
            assert daemon.stopped_at == DRAIN_SECONDS
        nursery.cancel_scope.cancel()


async def test_without_time_to_drain_turns_are_told_at_once(
    autojump_clock: trio.abc.Clock,
) -> None:
    daemon = Daemon()
    ends: list[Fault | None] = []
    async with trio.open_nursery() as nursery:
        await daemon.start(nursery, drain_seconds=0.0)
        nursery.start_soon(daemon.turn, 3600.0, ends.append)
        await wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGTERM)
        await daemon.stopped.wait()
        nursery.cancel_scope.cancel()
    assert isinstance(ends[0], Overloaded)
    assert daemon.stopped_at == 0.0


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
async def test_the_second_signal_ends_the_drain_at_once(
    first: signal.Signals, second: signal.Signals, autojump_clock: trio.abc.Clock
) -> None:
    daemon = Daemon()
    with pytest.RaisesGroup(Stopped, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await daemon.start(nursery)
            with daemon.turns.run(TURN, client="c", request_id="q"):
                signal.raise_signal(first)
                await wait_all_tasks_blocked()
                signal.raise_signal(second)
                await trio.sleep_forever()
    assert trio.current_time() == 0.0
    assert not daemon.stopped.is_set()
    assert daemon.turns.running == 0


async def test_the_second_signal_is_heard_while_the_last_bytes_are_sent(
    autojump_clock: trio.abc.Clock,
) -> None:
    daemon = Daemon()
    with pytest.RaisesGroup(Stopped, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await daemon.start(nursery)
            signal.raise_signal(signal.SIGTERM)
            await daemon.stopped.wait()
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()


async def test_without_a_signal_nothing_is_closed(autojump_clock: trio.abc.Clock) -> None:
    daemon = Daemon()
    before = signal.getsignal(signal.SIGTERM)
    async with trio.open_nursery() as nursery:
        await daemon.start(nursery)
        await trio.sleep(3600)
        nursery.cancel_scope.cancel()
    assert daemon.pool.closed == []
    assert not daemon.stopped.is_set()
    assert signal.getsignal(signal.SIGTERM) == before
