"""Turns whose clients have gone away, and that are finished for their conversations."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, TypeAlias

import trio

from maxd.workers.faults import Fault
from maxd.workers.turn import Event

MOST: Final = 32
"""Turns that are finished for nobody at the same time; those of further clients are cancelled."""

LONGEST_SECONDS: Final = 3600.0
"""How long one may go on. What nobody waits for must not hold a worker for ever."""


class LeftTurn(Protocol):
    """What is needed of a TurnStream."""

    @property
    def answered(self) -> bool:
        """Whether it has come to an answer."""

    async def next_events(self) -> list[Event]:
        """Wait for more; empty at the end. Raises Fault."""


End: TypeAlias = Callable[[bool], None]
"""Ends a turn; says whether its conversation may go on from where it stands now."""


class LeftTurns:
    """Takes over turns; `run` is the task that finishes them."""

    def __init__(self) -> None:
        self._tell, self._told = trio.open_memory_channel[tuple[LeftTurn, End]](math.inf)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def take(self, turn: LeftTurn, end: End) -> bool:
        """Finish `turn` and call `end`. False, and nothing is done, while there are too many."""
        if self._count >= MOST:
            return False
        self._count += 1
        self._tell.send_nowait((turn, end))
        return True

    async def run(self) -> None:
        """Finish turns until cancelled; then those that are left end unfinished."""
        try:
            async with trio.open_nursery() as nursery:
                async for turn, end in self._told:
                    nursery.start_soon(self._finish, turn, end)
        finally:
            with suppress(trio.WouldBlock):
                while True:
                    _, end = self._told.receive_nowait()
                    end(False)

    async def _finish(self, turn: LeftTurn, end: End) -> None:
        try:
            with trio.move_on_after(LONGEST_SECONDS), suppress(Fault):
                while await turn.next_events():
                    pass
        finally:
            self._count -= 1
            end(turn.answered)
