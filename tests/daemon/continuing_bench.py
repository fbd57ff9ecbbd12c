"""Turns over a pool that only remembers, each perhaps the next of a conversation."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.conversations import Conversations
from maxd.daemon.lease import Lease
from maxd.daemon.slots import Key
from maxd.daemon.turn_stream import TurnStream
from maxd.daemon.turns import Turns
from maxd.workers.faults import WorkerDied
from maxd.workers.profiles import BUILT_IN
from maxd.workers.turn import Event, Message, RoundEnded, RoundStarted, Text, TextDelta, Turn
from maxd.workers.worker import Outbox
from tests.daemon.stand_ins import FINISHED, AskedPool, IdleWorker, logger

DIED = WorkerDied("the claude CLI ended by itself")
QUESTION = Message("user", (Text("And now?"),))
STARTED = RoundStarted("claude-sonnet-4-7")
ROUND: list[Event] = [STARTED, TextDelta("It is 42. "), RoundEnded("end_turn")]


class KnowingWorker(IdleWorker):
    """Remembers how much of each turn it was said to know."""

    def __init__(self, number: int = 1) -> None:
        super().__init__(number)
        self.known: list[int] = []

    def assign_nowait(
        self, turn: Turn, outbox: Outbox, known: int = 0, *, reset: bool = False
    ) -> None:
        self.known.append(known)
        super().assign_nowait(turn, outbox, known)


class KnowingPool(AskedPool):
    """Remembers what each lease was asked for, besides."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[dict[str, Any]] = []

    def lease(self, key: Key, client: str, *, again: bool = False, **wanted: Any) -> Lease:
        self.wanted.append(wanted)
        return super().lease(key, client, again=again)

    def holds(self, head: bytes) -> bool:
        return any(lease.head == head for lease in self.given_back)


class Bench:
    """Turns over a pool that only remembers."""

    def __init__(self, *, resets: bool = False, probed: str = "") -> None:
        self.pool = KnowingPool()
        self.turns = Turns(
            self.pool.as_pool,
            BUILT_IN,
            Conversations(),
            logger()[0],
            allows_reset=lambda version: resets and version in (None, probed),
        )

    @contextmanager
    def run(self, turn: Turn, *, conversation: str | None = None) -> Iterator[TurnStream]:
        with self.turns.run(
            turn, client="c", request_id="q", conversation_id=conversation
        ) as stream:
            yield stream

    def grant(self, *, continues: bool = False, resets: bool = False) -> KnowingWorker:
        worker = KnowingWorker(len(self.pool.leases))
        self.pool.leases[-1].grant(worker, continues=continues, resets=resets)
        return worker

    @property
    def heads(self) -> list[bytes | None]:
        """What the workers that were given back are known by."""
        return [lease.head for lease in self.pool.given_back]


def ask(*said: Message, profile: str = "chat") -> Turn:
    return Turn(
        profile=profile, model="sonnet", system=("Be brief.",), messages=said or (QUESTION,)
    )


def following(turn: Turn, reply: str) -> Turn:
    """The client's next request."""
    answer = Message("assistant", (Text(reply),))
    return ask(*turn.messages, answer, QUESTION, profile=turn.profile)


async def read(stream: TurnStream) -> list[Event]:
    """All events up to Finished."""
    events: list[Event] = []
    while not stream.finished:
        events += await stream.next_events()
    return events


async def answered(bench: Bench, turn: Turn, *events: Event, continues: bool = False) -> str:
    """Run a turn to its end; return what the client saw of the answer."""
    with bench.run(turn) as stream:
        worker = bench.grant(continues=continues)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                await wait_all_tasks_blocked()
                for event in events or (*ROUND, FINISHED):
                    worker.outbox.send_nowait([event])

            told = await read(stream)
    return "".join(event.text for event in told if isinstance(event, TextDelta))
