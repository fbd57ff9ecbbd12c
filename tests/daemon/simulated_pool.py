"""A pool that exists only as a list of its workers' lives, for the properties of the scheduler."""

from typing import TYPE_CHECKING, Literal

from maxd.daemon.slots import Key
from maxd.workers.faults import ConversationGone, Fault, Overloaded, WorkerDied

if TYPE_CHECKING:
    from maxd.daemon.scheduler import Scheduler

IDLE_SECONDS = 60.0

Stage = Literal["starting", "ready", "leased", "idle", "killed"]


class SimulatedPool:
    """Effects that check each order against what they know, and keep the workers' lives."""

    def __init__(self, max_workers: int, max_starting: int) -> None:
        self._max_workers = max_workers
        self._max_starting = max_starting
        self._count = 0
        self.now = 0.0
        self.closed = False
        self.scheduler: Scheduler | None = None
        self.stages: dict[str, Stage] = {}
        self.keys: dict[str, Key] = {}
        self.since: dict[str, float] = {}
        self.wanted: dict[str, Key] = {}
        self.wanted_heads: dict[str, bytes] = {}
        self.leases: dict[str, str] = {}
        # Of the workers that are idle: what they hold.
        self.heads: dict[str, bytes] = {}
        self.outcomes: dict[str, str] = {}
        # The head whose worker is being ended on demand.
        self.ending: bytes | None = None
        # The earliest time of the next start after failures, kept in its weakest form.
        self.last_failure: float | None = None

    def spawn(self, key: Key, session: str | None = None) -> str:
        assert not self.closed
        assert self.last_failure is None or self.now >= self.last_failure + 0.5
        self._count += 1
        worker = f"w{self._count}"
        self.stages[worker] = "starting"
        self.keys[worker] = key
        self.since[worker] = self.now
        assert len(self.stages) <= self._max_workers
        return worker

    def grant(self, request: str, worker: str, *, continues: bool, resets: bool = False) -> None:
        assert not self.closed
        assert self.keys[worker] == self.wanted[request]
        if continues:
            assert self.stages[worker] == "idle"
            assert self.heads.pop(worker) == self.wanted_heads[request]
        else:
            assert self.stages[worker] == "ready"
        self.stages[worker] = "leased"
        self.leases[request] = worker
        self.end(request, "granted")

    def refuse(self, request: str, fault: Fault) -> None:
        if isinstance(fault, Overloaded):
            assert fault.retry_after is not None
        assert not isinstance(fault, WorkerDied)
        if isinstance(fault, ConversationGone):
            assert self.wanted_heads[request] not in self.heads.values()
        self.end(request, "refused")

    def kill(self, worker: str, reason: str) -> None:
        assert reason
        assert self.stages[worker] != "killed"
        if self.stages[worker] == "idle":
            self.check_end_of_idle(worker)
        self.stages[worker] = "killed"
        self.since[worker] = self.now

    def check_end_of_idle(self, worker: str) -> None:
        """A conversation's worker ends only for a reason, and the longest idle first."""
        del self.heads[worker]
        since = self.since[worker]
        if self.closed or self.ending is not None or self.now >= since + IDLE_SECONDS:
            return
        stages = list(self.stages.values())
        assert stages.count("idle") == 1 or since == min(self.since[each] for each in self.idle())
        # Room is wanted for a start that may be made now, and there is none.
        assert self.last_failure is None or self.now >= self.last_failure + 0.5
        assert self.scheduler is not None
        room = self._max_workers - len(stages) + stages.count("killed")
        assert room + stages.count("starting") < self._max_starting
        if self.scheduler.queued:
            assert len(stages) == self._max_workers
        else:
            # For a spare, of which there are few.
            have = stages.count("ready") + stages.count("starting")
            assert have < self._max_workers // 2

    def idle(self) -> list[str]:
        return [worker for worker, stage in self.stages.items() if stage == "idle"]

    def end(self, request: str, outcome: str) -> None:
        assert request in self.wanted
        assert request not in self.outcomes
        self.outcomes[request] = outcome

    def gone(self, worker: str) -> None:
        del self.stages[worker], self.since[worker]
