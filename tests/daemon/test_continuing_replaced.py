"""Workers that were asked for to go on with a conversation and died or were reset for it."""

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from maxd.daemon import lineage
from maxd.daemon.slots import Key
from maxd.workers.faults import ProtocolBroken, WorkerDied
from maxd.workers.turn import Effort, Text
from tests.daemon.continuing_bench import (
    DIED,
    ROUND,
    STARTED,
    Bench,
    KnowingWorker,
    answered,
    ask,
    following,
    read,
)
from tests.daemon.stand_ins import FINISHED

CHAT = Key("chat", "sonnet")


async def test_one_that_continued_and_died_is_replaced_by_an_import() -> None:
    bench = Bench()
    turn = following(ask(), await answered(bench, ask()))
    with bench.run(turn) as stream:
        first = bench.grant(continues=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            first.outbox.send_nowait(DIED)
            first.outbox.close()
            await wait_all_tasks_blocked()
            second = bench.grant()
            await wait_all_tasks_blocked()
            second.outbox.send_nowait([*ROUND, FINISHED])
    assert (first.known, second.known) == ([2], [0])
    assert second.turns == [turn]
    assert bench.pool.wanted[-1]["head"] is None
    assert bench.pool.asked[-1] == (CHAT, "c", True)
    # The first is not kept; the second is.
    assert bench.heads[1:] == [None, lineage.after_reply(turn, "c", (Text("It is 42. "),))]


async def test_one_that_died_of_its_reset_is_not_replaced_by_another_to_be_reset() -> None:
    bench = Bench(resets=True)
    turn = ask()
    with bench.run(turn) as stream:
        first = bench.grant(resets=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            first.outbox.send_nowait(ProtocolBroken("the claude CLI did not answer a reset"))
            first.outbox.close()
            await wait_all_tasks_blocked()
            second = bench.grant()
            await wait_all_tasks_blocked()
            second.outbox.send_nowait([*ROUND, FINISHED])
    roots = [wanted["root"] for wanted in bench.pool.wanted]
    assert roots == [lineage.binding(lineage.root(turn, "c"), turn, None), None]
    assert bench.heads == [None, lineage.after_reply(turn, "c", (Text("It is 42. "),))]


async def test_one_that_died_in_the_moment_of_its_grant_is_replaced_too() -> None:
    bench = Bench()
    turn = following(ask(), await answered(bench, ask()))
    with bench.run(turn) as stream:
        bench.grant(continues=True)
        bench.pool.leases[-1].lose()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            second = bench.grant()
            await wait_all_tasks_blocked()
            second.outbox.send_nowait([*ROUND, FINISHED])
    assert second.known == [0]


async def test_what_died_after_the_acceptance_is_not_replaced() -> None:
    bench = Bench()
    turn = following(ask(), await answered(bench, ask()))
    with bench.run(turn) as stream:
        worker = bench.grant(continues=True)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def expect() -> None:
                with pytest.raises(WorkerDied):
                    await read(stream)

            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([STARTED])
            worker.outbox.send_nowait(DIED)
    assert len(bench.pool.leases) == 2
    assert bench.heads[1:] == [None]


async def test_a_worker_is_reset_for_the_effort_that_it_is_set_to() -> None:
    """Or a conversation that wants none in particular would have that of a stranger's."""
    bench = Bench(resets=True)
    asked = replace(ask(), effort="low")
    with bench.run(asked) as stream:
        worker = Trying()
        bench.pool.leases[-1].grant(worker)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                await wait_all_tasks_blocked()
                worker.outbox.send_nowait([*ROUND, FINISHED])

            await read(stream)
    (lease,) = bench.pool.given_back
    for turn in (asked, ask(), replace(ask(), effort="high")):
        with bench.run(turn):
            pass
    wanted = [each["root"] == lease.root for each in bench.pool.wanted[1:]]
    assert wanted == [True, False, False]


async def test_after_an_update_a_worker_of_the_version_before_is_not_reset() -> None:
    for probed, resets in (("", True), ("2.1.330", False)):
        bench = Bench(resets=True, probed=probed)
        await answered(bench, ask())
        assert (bench.pool.given_back[-1].root is not None) is resets
        assert bench.pool.wanted[-1]["root"] is not None


class Trying(KnowingWorker):
    """One that is set to an effort."""

    @property
    def effort(self) -> Effort | None:
        return "low"
