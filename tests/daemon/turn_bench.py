"""Turns over a pool that only remembers, each watched from outside."""

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.conversations import Conversations
from maxd.daemon.lease import Lease
from maxd.daemon.turn_stream import TurnStream
from maxd.daemon.turns import Turns
from maxd.workers.faults import Fault, WorkerDied
from maxd.workers.profiles import BUILT_IN
from maxd.workers.turn import Event, RoundEnded, RoundStarted, TextDelta, Turn
from tests.daemon.stand_ins import TURN, AskedPool, IdleWorker, logger

STARTED = RoundStarted("claude-sonnet-4-7")
ROUND: list[Event] = [STARTED, TextDelta("It is 42."), RoundEnded("end_turn")]


class Bench:
    """Turns over a pool that only remembers what it was asked."""

    def __init__(
        self,
        on_ask: Callable[[Lease], None] = lambda lease: None,
        conversations: Conversations | None = None,
    ) -> None:
        self.pool = AskedPool(on_ask)
        self.faults: list[Fault] = []
        log, self._log = logger()
        self.turns = Turns(
            self.pool.as_pool,
            BUILT_IN,
            Conversations() if conversations is None else conversations,
            log,
            on_fault=self.faults.append,
        )

    @contextmanager
    def run(self, turn: Turn = TURN) -> Iterator[TurnStream]:
        with self.turns.run(turn, client="c", request_id="q1") as stream:
            yield stream

    @property
    def logged(self) -> MutableMapping[str, Any]:
        """What the log was told of the one turn."""
        [entry] = [entry for entry in self._log.entries if entry["event"] == "turn"]
        return entry

    def grant(self) -> IdleWorker:
        """Grant the newest lease."""
        worker = IdleWorker(len(self.pool.leases))
        self.pool.leases[-1].grant(worker)
        return worker

    def assert_given_back_once(self) -> None:
        assert len(self.pool.given_back) == len(self.pool.leases)
        assert set(self.pool.given_back) == set(self.pool.leases)
        assert self.turns.running == 0


def kill(worker: IdleWorker) -> None:
    worker.outbox.send_nowait(WorkerDied("the claude CLI ended in the middle of the turn"))
    worker.outbox.close()


async def in_background(nursery: trio.Nursery, stream: TurnStream) -> list[list[Event] | Fault]:
    """Let a task wait for the next events; return where it will put the outcome."""
    outcome: list[list[Event] | Fault] = []

    async def read() -> None:
        try:
            outcome.append(await stream.next_events())
        except Fault as fault:
            outcome.append(fault)

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    return outcome
