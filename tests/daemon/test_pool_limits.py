"""The limits of a pool that runs."""

from dataclasses import replace

import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.pool import Pool
from maxd.daemon.slots import Key, Limits
from maxd.workers.launch import Launch
from tests.daemon.stand_ins import logger

LIMITS = Limits(
    max_workers=4,
    max_starting=1,
    spares=0,
    warm=(),
    warm_seconds=0.0,
    queue_length=9,
    queue_seconds=1.0,
)


def launcher(worker: str, key: Key, session: str | None) -> Launch:
    raise AssertionError("nothing is to be started")


async def test_those_that_are_told_are_those_in_force() -> None:
    pool = Pool(LIMITS, launcher, logger()[0])
    fewer = replace(LIMITS, max_workers=2, queue_length=3)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        assert pool.limits == LIMITS
        pool.adapt(fewer, freeze_idle=True, reuse_bytes=0)
        await wait_all_tasks_blocked()
        assert pool.limits == fewer
        nursery.cancel_scope.cancel()
