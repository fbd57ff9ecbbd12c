"""CPU and memory of processes, read while nobody waits for it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import psutil
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from maxd.daemon.status import Used
from maxd.daemon.worker_usage import LEAST_SECONDS, WorkerUsage
from tests.scarcity import no_file_left


async def sample(usage: WorkerUsage, clock: MockClock) -> None:
    """Let it look once."""
    before = usage.used
    usage.look()
    clock.jump(LEAST_SECONDS)
    await looked(usage, before)


async def looked(usage: WorkerUsage, before: Mapping[int, Used]) -> None:
    """Wait for the thread that looks, which knows nothing of a clock that is only ours."""
    while usage.used is before:
        await trio.lowlevel.checkpoint()


async def test_memory_at_once_and_cpu_at_the_second_look(mock_clock: MockClock) -> None:
    pids = [os.getpid(), 2**22 + 1]
    usage = WorkerUsage()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(usage.run, lambda: pids)
        await sample(usage, mock_clock)
        assert set(usage.used) == {os.getpid()}, "no process, no figures"
        first = usage.used[os.getpid()]
        assert first.cpu is None
        assert abs(first.memory - psutil.Process().memory_info().rss) < 50 * 2**20
        await sample(usage, mock_clock)
        assert usage.used[os.getpid()].cpu is not None
        nursery.cancel_scope.cancel()


async def test_with_no_file_left_it_looks_again_later(mock_clock: MockClock) -> None:
    usage = WorkerUsage()
    async with trio.open_nursery() as nursery:
        with no_file_left():
            nursery.start_soon(usage.run, lambda: [os.getpid()])
            await sample(usage, mock_clock)
        assert usage.used == {}
        await sample(usage, mock_clock)
        assert set(usage.used) == {os.getpid()}
        nursery.cancel_scope.cancel()


@pytest.fixture
def stopped_process() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        psutil.Process(child.pid).suspend()
        yield child.pid
        child.kill()


async def test_a_stopped_process_is_read_too(stopped_process: int, mock_clock: MockClock) -> None:
    usage = WorkerUsage()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(usage.run, lambda: [stopped_process])
        await sample(usage, mock_clock)
        assert usage.used[stopped_process].memory > 0
        nursery.cancel_scope.cancel()


async def test_many_who_ask_cost_one_look_a_second(mock_clock: MockClock) -> None:
    looks: list[float] = []
    before: Mapping[int, Used] = {}

    def pids() -> list[int]:
        nonlocal before
        looks.append(trio.current_time())
        before = usage.used
        return []

    usage = WorkerUsage()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(usage.run, pids)
        for _ in range(80):
            usage.look()
            # A binary fraction: no look is late by a rounding error.
            mock_clock.jump(0.125)
            await wait_all_tasks_blocked()
            await looked(usage, before)
        nursery.cancel_scope.cancel()
    assert looks == [0.125 + second * LEAST_SECONDS for second in range(10)]
