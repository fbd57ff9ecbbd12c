"""The moments of one turn while it runs, and what may be told of it from them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from maxd.daemon.lease import Lease
from maxd.daemon.turn_facts import CANCELLED, FINISHED, RunningTurn, Timings, TurnFacts, timings
from maxd.workers.turn import Event, Finished, TextDelta, Turn, TurnRecord

if TYPE_CHECKING:
    from maxd.workers.faults import Fault
    from maxd.workers.worker import Worker


class TurnWatch:
    """Told of a turn's steps as they happen. `attempts` counts the workers that it has asked for,
    `leased_at` is when it got the last one, None while it waits."""

    def __init__(self, turn: Turn, conversation: str) -> None:
        self._turn = turn
        self._conversation = conversation
        self._admitted = self._told_at = trio.current_time()
        self._first_text_at: float | None = None
        self._worker: Worker | None = None
        # What the worker's record was before this turn.
        self._before: TurnRecord | None = None
        self._start: tuple[float, float] | None = None
        self._continues = False
        self.attempts = 0
        self.leased_at: float | None = None

    @property
    def worker(self) -> str | None:
        """The id of the worker it has; None while it waits for one."""
        return None if self._worker is None else self._worker.launch.id

    def asked(self) -> None:
        """It asks for a worker."""
        self.attempts += 1
        self.leased_at = self._worker = None

    def leased(self, lease: Lease) -> None:
        """It has one."""
        self.leased_at = self._told_at = trio.current_time()
        self._worker, self._continues = lease.worker, lease.continues
        self._start = lease.start
        self._before = None if lease.worker is None else lease.worker.record

    def told(self, released: Iterable[Event]) -> None:
        """The worker has told something, of which this goes to the client."""
        self._told_at = trio.current_time()
        if self._first_text_at is None and any(isinstance(each, TextDelta) for each in released):
            self._first_text_at = self._told_at

    def timings(self, *, ended: bool) -> Timings:
        """Where its time has gone up to now; `total` if it has ended."""
        return timings(
            self._admitted,
            self.leased_at,
            self._start,
            self._first_text_at,
            trio.current_time() if ended else None,
        )

    def running(self, request: str, now: float) -> RunningTurn:
        """What the operator may see of it while it runs."""
        return RunningTurn(
            request=request,
            conversation=self._conversation,
            age=now - self._admitted,
            quiet=now - self._told_at,
        )

    def facts(
        self,
        finished: Finished | None,
        fault: "Fault | None",
        *,
        request: str,
        dialect: str,
        key: str | None,
    ) -> TurnFacts:
        """What the log may know of it now that it has ended."""
        facts = TurnFacts(
            request=request,
            dialect=dialect,
            key=key,
            conversation=self._conversation,
            profile=self._turn.profile,
            model=self._turn.model,
            messages=len(self._turn.messages),
            worker=self.worker,
            continued=self._continues,
            attempts=self.attempts,
            timings=self.timings(ended=True),
            outcome=CANCELLED if finished is None else FINISHED,
        )
        if fault is not None:
            return replace(facts, outcome=fault.code or fault.blame, reason=fault.message)
        if finished is not None and self._worker is not None:
            record = self._worker.record
            # A worker that did not end the turn has none of it.
            cost = 0.0 if record is self._before else record.cost
            return replace(facts, usage=finished.usage, cost=cost)
        return facts
