"""Turns that are finished without their clients."""

from functools import partial

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from maxd.daemon.left_turns import LONGEST_SECONDS, MOST, LeftTurns
from maxd.workers.faults import WorkerDied
from maxd.workers.turn import Event, TextDelta


class Left:
    """A turn whose worker speaks when the test says so."""

    def __init__(self) -> None:
        self.answered = False
        self.fails = False
        self._more = trio.Event()
        self.ended: list[bool] = []

    async def next_events(self) -> list[Event]:
        if self.answered:
            return []
        await self._more.wait()
        if self.fails:
            raise WorkerDied("gone")
        self.answered = True
        return [TextDelta("done")]

    def finish(self, *, fails: bool = False) -> None:
        self.fails = fails
        self._more.set()


async def test_a_turn_is_finished_and_ended_once(nursery: trio.Nursery) -> None:
    left, turn, broken = LeftTurns(), Left(), Left()
    nursery.start_soon(left.run)
    assert left.take(turn, turn.ended.append)
    assert left.take(broken, broken.ended.append)
    await wait_all_tasks_blocked()
    assert len(left) == 2
    turn.finish()
    broken.finish(fails=True)
    await wait_all_tasks_blocked()
    assert (turn.ended, broken.ended) == ([True], [False])
    assert len(left) == 0
    nursery.cancel_scope.cancel()


async def test_no_more_than_so_many_and_not_for_ever(autojump_clock: MockClock) -> None:
    left = LeftTurns()
    turns = [Left() for _ in range(MOST + 1)]
    taken = [left.take(turn, turn.ended.append) for turn in turns]
    assert taken == [True] * MOST + [False]
    with trio.move_on_after(LONGEST_SECONDS + 1):
        await left.run()
    assert [turn.ended for turn in turns] == [[False]] * MOST + [[]]


async def test_what_is_left_when_it_is_cancelled_ends_unfinished() -> None:
    left, running, waiting = LeftTurns(), Left(), Left()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run)
        left.take(running, running.ended.append)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        left.take(waiting, partial(waiting.ended.append))
    assert (running.ended, waiting.ended) == ([False], [False])
