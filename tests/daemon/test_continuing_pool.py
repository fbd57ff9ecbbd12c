"""The pool between two turns: when it freezes workers, and whom it leases when they die."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from maxd.daemon.lease import Lease
from maxd.daemon.pool import SETTLE_SECONDS, Pool
from maxd.daemon.slots import Key, Limits
from maxd.workers.faults import WorkerDied
from maxd.workers.states import State
from maxd.workers.turn import TextDelta, Turn
from maxd.workers.worker import Worker
from tests.daemon.speaking_cli import install, launch, said, wait_for_output
from tests.daemon.stand_ins import logger

KEY = Key("chat", "sonnet")


@pytest.fixture
def cli(tmp_path: Path) -> str:
    return install(tmp_path)


class World:
    """A pool on that CLI. The clock stands still unless a test moves it."""

    def __init__(self, cli: str, **limits: int | float) -> None:
        defaults: dict[str, Any] = {"max_workers": 4, "max_starting": 2, "spares": 0}
        defaults |= {"warm": (KEY,), "warm_seconds": 600.0, "refill_seconds": 0.0}
        defaults |= {"queue_length": 10, "queue_seconds": 60.0}
        self.pool = Pool(
            Limits(**{**defaults, **limits}),
            lambda worker, key, session=None: launch(cli, worker),
            logger()[0],
        )

    async def lease(self, head: bytes | None = None) -> Lease:
        lease = self.pool.lease(KEY, "c", head=head)
        await lease.wait()
        return lease

    async def answer(self, lease: Lease, turn: Turn, known: int = 0) -> str:
        """A whole turn; what was said. Raises its fault."""
        lease.begin(turn, known)
        text = ""
        while not lease.finished:
            events = await lease.next_events()
            text += "".join(event.text for event in events if isinstance(event, TextDelta))
        return text

    async def converse(self, head: bytes) -> Worker:
        """A first turn; return its worker, idle at `head`."""
        lease = await self.lease()
        assert await self.answer(lease, said("one")) == "1: one"
        lease.head = head
        lease.close()
        await self.until(State.IDLE)
        assert lease.worker is not None
        return lease.worker

    async def until(self, state: State, count: int = 1) -> None:
        while self.pool.counts()[state] != count:
            await trio.lowlevel.checkpoint()
        # Its timer has begun.
        await wait_all_tasks_blocked()


@pytest.fixture
async def world(cli: str, mock_clock: MockClock, nursery: trio.Nursery) -> World:
    world = World(cli)
    await nursery.start(world.pool.run)
    return world


def is_stopped(worker: Worker) -> bool:
    assert worker.pid is not None
    return psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED


async def until_stopped(worker: Worker) -> None:
    while not is_stopped(worker):
        await trio.lowlevel.checkpoint()


async def test_it_is_frozen_between_its_turns_and_thawed_for_the_next(
    world: World, mock_clock: MockClock
) -> None:
    worker = await world.converse(b"1")
    for number in range(2, 5):
        await wait_all_tasks_blocked()
        assert not is_stopped(worker)
        mock_clock.jump(SETTLE_SECONDS)
        await until_stopped(worker)
        lease = await world.lease(b"%d" % (number - 1))
        assert lease.continues
        assert lease.worker is worker
        assert await world.answer(lease, said("one", "x", "two"), 2) == f"{number}: two"
        lease.head = b"%d" % number
        lease.close()
        await world.until(State.IDLE)


async def test_a_timer_of_an_earlier_pause_freezes_no_worker_that_is_leased(
    world: World, mock_clock: MockClock
) -> None:
    worker = await world.converse(b"1")
    mock_clock.jump(SETTLE_SECONDS - 1)
    lease = await world.lease(b"1")
    mock_clock.jump(1)
    await wait_all_tasks_blocked(0.05)
    assert not is_stopped(worker)
    assert await world.answer(lease, said("one", "x", "two"), 2) == "2: two"
    lease.close()


async def test_a_timer_of_an_earlier_pause_does_not_cut_a_later_one_short(
    world: World, mock_clock: MockClock
) -> None:
    """The CLI is still busy with the end of its last turn, and would go on in the next one."""
    worker = await world.converse(b"1")
    mock_clock.jump(SETTLE_SECONDS - 1)
    lease = await world.lease(b"1")
    assert await world.answer(lease, said("one", "x", "two"), 2) == "2: two"
    lease.head = b"2"
    lease.close()
    await world.until(State.IDLE)
    mock_clock.jump(1)
    await wait_all_tasks_blocked(0.05)
    assert not is_stopped(worker)
    mock_clock.jump(SETTLE_SECONDS - 1)
    await until_stopped(worker)


@pytest.mark.parametrize("frozen", [False, True])
async def test_one_that_dies_between_its_turns_is_not_leased_again(
    world: World, mock_clock: MockClock, frozen: bool
) -> None:
    worker = await world.converse(b"1")
    assert worker.pid is not None
    if frozen:
        mock_clock.jump(SETTLE_SECONDS)
        await until_stopped(worker)
    os.kill(worker.pid, signal.SIGKILL)
    await world.until(State.IDLE, 0)
    lease = await world.lease(b"1")
    assert not lease.continues
    assert world.pool.fault is None
    lease.close()


async def test_one_that_dies_around_the_moment_of_its_lease_ends_the_turn(world: World) -> None:
    """Before it knows, when it knows, and when it only waits for the end of its tree."""
    continued = 0
    for steps in range(0, 40, 2):
        worker = await world.converse(b"1")
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        wait_for_output(worker)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        lease = await world.lease(b"1")
        continued += lease.continues
        if lease.continues:
            with pytest.raises(WorkerDied):
                await world.answer(lease, said("one", "1: one", "two"), 2)
        lease.close()
        while any(world.pool.counts().values()):
            await trio.lowlevel.checkpoint()
    assert continued > 0


async def test_it_dies_while_its_lease_is_closed_with_a_head(world: World) -> None:
    lease = await world.lease()
    assert await world.answer(lease, said("one")) == "1: one"
    assert lease.worker is not None
    assert lease.worker.pid is not None
    os.kill(lease.worker.pid, signal.SIGKILL)
    lease.head = b"1"
    lease.close()
    while any(world.pool.counts().values()):
        await trio.lowlevel.checkpoint()
    later = await world.lease(b"1")
    assert not later.continues
    later.close()


async def test_a_request_that_comes_with_the_end_of_the_turn_before_continues(world: World) -> None:
    """Both commands reach the supervisor in the order in which they were given."""
    worker = await world.converse(b"1")
    for number in range(2, 20):
        lease = await world.lease(b"%d" % (number - 1))
        assert lease.worker is worker
        assert await world.answer(lease, said("one", "x", "two"), 2) == f"{number}: two"
        lease.head = b"%d" % number
        lease.close()


async def test_a_lease_that_is_closed_before_its_grant_is_known_ends_the_worker(
    world: World,
) -> None:
    await world.converse(b"1")
    lease = world.pool.lease(KEY, "c", head=b"1")
    lease.close()
    await world.until(State.IDLE, 0)
    while any(world.pool.counts().values()):
        await trio.lowlevel.checkpoint()
