"""A scheduler whose orders are only written down, for cases that are told one event at a time."""

from collections.abc import Sequence

from maxd.daemon.scheduler import Scheduler
from maxd.daemon.slots import Key, Limits
from maxd.workers.faults import Fault, WorkerStartFailed

AGENT = Key("agent", "sonnet")
CHAT = Key("chat", "sonnet")
OPUS = Key("agent", "opus")
NO_START = WorkerStartFailed("the claude CLI ended before it was ready")


class Record:
    """Effects that only write down; `take` returns what is new."""

    def __init__(self) -> None:
        self._told: list[tuple[str, ...]] = []
        self.faults: dict[str, Fault] = {}
        self.keys: dict[str, Key] = {}

    def spawn(self, key: Key, session: str | None) -> str:
        worker = f"w{len(self.keys) + 1}"
        self.keys[worker] = key
        self._told.append(("spawn", worker, *key))
        return worker

    def grant(self, request: str, worker: str, *, continues: bool, resets: bool) -> None:
        self._told.append(
            ("continue" if continues else "reset" if resets else "grant", request, worker)
        )

    def refuse(self, request: str, fault: Fault) -> None:
        self.faults[request] = fault
        self._told.append(("refuse", request))

    def kill(self, worker: str, reason: str) -> None:
        self._told.append(("kill", worker))

    def take(self) -> list[tuple[str, ...]]:
        told, self._told = self._told, []
        return told


def make(
    *,
    max_workers: int = 4,
    max_starting: int = 4,
    spares: int = 1,
    warm: Sequence[Key] = (AGENT,),
    warm_seconds: float = 600.0,
    queue_length: int = 100,
    queue_seconds: float = 60.0,
    refill_seconds: float = 0.0,
) -> tuple[Scheduler, Record]:
    record = Record()
    limits = Limits(
        max_workers=max_workers,
        max_starting=max_starting,
        spares=spares,
        warm=tuple(warm),
        warm_seconds=warm_seconds,
        queue_length=queue_length,
        queue_seconds=queue_seconds,
        refill_seconds=refill_seconds,
    )
    return Scheduler(limits, record), record


def warmed(*, max_workers: int = 4, queue_seconds: float = 60.0) -> tuple[Scheduler, Record]:
    """One spare, w1, of AGENT."""
    scheduler, record = make(max_workers=max_workers, queue_seconds=queue_seconds)
    scheduler.tick(0.0)
    scheduler.worker_ready("w1", 0.0)
    record.take()
    return scheduler, record


def fail_starts(scheduler: Scheduler, record: Record, until: float, fault: Fault) -> int:
    """Let every start fail 0.2 s after it; return how many there were."""
    now, starts = 0.0, 0
    scheduler.tick(now)
    while now < until:
        spawned = [told[1] for told in record.take() if told[0] == "spawn"]
        starts += len(spawned)
        for worker in spawned:
            scheduler.worker_gone(worker, now + 0.2, fault=fault)
        wake = scheduler.wake_at(now + 0.2)
        assert wake is None or wake > now + 0.2
        now = until if wake is None else wake
        scheduler.tick(now)
    return starts
