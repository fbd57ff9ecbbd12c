"""CPU and memory of processes, read while nobody waits for it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
import trio
from trio.testing import MockClock

from maxd.daemon.worker_usage import WorkerUsage
from tests.scarcity import no_file_left


async def sample(usage: WorkerUsage) -> None:
    """Let it look once."""
    before = usage.used
    usage.look()
    with trio.fail_after(30):
        while usage.used is before:  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.01)


async def test_memory_at_once_and_cpu_at_the_second_look() -> None:
    pids = [os.getpid(), 2**22 + 1]
    usage = WorkerUsage(lambda: pids)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(usage.run)
        await sample(usage)
        assert set(usage.used) == {os.getpid()}, "no process, no figures"
        first = usage.used[os.getpid()]
        assert first.cpu is None
        assert abs(first.memory - psutil.Process().memory_info().rss) < 50 * 2**20
        await sample(usage)
        assert usage.used[os.getpid()].cpu is not None
        nursery.cancel_scope.cancel()


async def test_with_no_file_left_it_looks_again_later() -> None:
    usage = WorkerUsage(lambda: [os.getpid()])
    async with trio.open_nursery() as nursery:
        with no_file_left():
            nursery.start_soon(usage.run)
            await sample(usage)
        assert usage.used == {}
        await sample(usage)
        assert set(usage.used) == {os.getpid()}
        nursery.cancel_scope.cancel()


@pytest.fixture
def stopped_process() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        psutil.Process(child.pid).suspend()
        yield child.pid
        child.kill()


async def test_a_stopped_process_is_read_too(stopped_process: int) -> None:
    usage = WorkerUsage(lambda: [stopped_process])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(usage.run)
        await sample(usage)
        assert usage.used[stopped_process].memory > 0
        nursery.cancel_scope.cancel()


async def test_many_who_ask_cost_one_look_a_second(autojump_clock: MockClock) -> None:
    looks: list[float] = []

    def pids() -> list[int]:
        looks.append(trio.current_time())
        return []

    usage = WorkerUsage(pids)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(usage.run)
        for _ in range(100):
            usage.look()
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert 2 <= len(looks) <= 12
