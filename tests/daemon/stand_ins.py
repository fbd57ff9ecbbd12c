"""A worker and a pool that only write down what they are told, for what takes them as arguments."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import structlog
from structlog.typing import FilteringBoundLogger

from maxd.daemon.lease import Lease
from maxd.daemon.pool import Pool
from maxd.daemon.slots import Key
from maxd.workers.faults import Fault
from maxd.workers.launch import Launch
from maxd.workers.profiles import CHAT
from maxd.workers.turn import Finished, Message, Text, Turn, Usage
from maxd.workers.worker import Outbox, Worker

if TYPE_CHECKING:
    import trio

    from maxd.workers.turn import Event

FINISHED = Finished("end_turn", Usage(output_tokens=3))
TURN = Turn(profile="chat", model="sonnet", messages=(Message("user", (Text("Hello"),)),))


class IdleWorker(Worker):
    """A worker without a process; what it says is sent to `outbox` by the test."""

    def __init__(self, number: int = 1) -> None:
        launch = Launch(
            id=f"w{number}",
            cli="/nonexistent",
            profile=CHAT,
            model="sonnet",
            directory="/",
            environment={},
            marker="test",
            start_seconds=1.0,
        )
        super().__init__(launch)
        self.turns: list[Turn] = []
        self.outbox: trio.MemorySendChannel[list[Event] | Fault]

    def assign_nowait(
        self, turn: Turn, outbox: Outbox, known: int = 0, *, reset: bool = False
    ) -> None:
        self.turns.append(turn)
        self.outbox = outbox


class AskedPool:
    """Remembers the leases it was asked for; the test grants, refuses and loses them."""

    def __init__(self, on_ask: Callable[[Lease], None] = lambda lease: None) -> None:
        self._on_ask = on_ask
        self.asked: list[tuple[Key, str, bool]] = []
        self.whole: list[bool] = []
        self.leases: list[Lease] = []
        self.given_back: list[Lease] = []
        self.closed: list[tuple[Fault, bool]] = []

    @property
    def as_pool(self) -> Pool:
        return cast("Pool", self)

    def lease(
        self,
        key: Key,
        client: str,
        *,
        head: bytes | None = None,
        root: bytes | None = None,
        session: str | None = None,
        whole: bool = True,
        again: bool = False,
    ) -> Lease:
        lease = Lease(self.given_back.append)
        self.asked.append((key, client, again))
        self.whole.append(whole)
        self.leases.append(lease)
        self._on_ask(lease)
        return lease

    def close(self, fault: Fault, *, for_good: bool = False) -> None:
        self.closed.append((fault, for_good))


def logger() -> tuple[FilteringBoundLogger, structlog.testing.LogCapture]:
    """A logger, and what it was told."""
    capture = structlog.testing.LogCapture()
    wrapped = structlog.wrap_logger(
        None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    return cast("FilteringBoundLogger", wrapped), capture
