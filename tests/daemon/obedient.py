"""A scheduler whose workers do at once as they are told, for the cases of idle workers."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from maxd.daemon.scheduler import Scheduler
from maxd.daemon.slots import Key, Limits
from maxd.workers.faults import Fault, WorkerDied, WorkerStartFailed
from maxd.workers.states import State

AGENT = Key("agent", "sonnet")
CHAT = Key("chat", "sonnet")
HEAD = b"one"
OTHER = b"another"
NO_START = WorkerStartFailed("the claude CLI ended before it was ready")
DIED = WorkerDied("the claude CLI ended by itself")
Told: TypeAlias = list[tuple[str, ...]]


class World:
    """A scheduler with obedient workers: each is ready and gone as soon as `obey` is called.
    `take` returns what is new of what the scheduler did, each effect as its words."""

    def __init__(self, *, warm: Sequence[Key] = (), **limits: Any) -> None:
        self._told: Told = []
        self._count = 0
        self.now = 0.0
        self.faults: dict[str, Fault] = {}
        defaults = {"max_workers": 4, "max_starting": 4, "spares": 0, "warm_seconds": 600.0}
        defaults |= {"queue_length": 100, "queue_seconds": 60.0, "refill_seconds": 0.0}
        self.scheduler = Scheduler(Limits(warm=tuple(warm), **{**defaults, **limits}), self)
        self.scheduler.tick(self.now)

    def spawn(self, key: Key, session: str | None = None) -> str:
        self._count += 1
        self._told.append(("spawn", f"w{self._count}"))
        return f"w{self._count}"

    def grant(self, request: str, worker: str, *, continues: bool, resets: bool = False) -> None:
        assert not resets
        self._told.append(("continue" if continues else "grant", request, worker))

    def refuse(self, request: str, fault: Fault) -> None:
        self.faults[request] = fault
        self._told.append(("refuse", request))

    def kill(self, worker: str, reason: str) -> None:
        self._told.append(("kill", worker))

    def take(self) -> Told:
        told, self._told = self._told, []
        return told

    def obey(self) -> Told:
        """Let all that was started be ready, and all that was killed be gone, to the end."""
        seen: Told = []
        while told := self.take():
            seen += told
            for action, worker, *_ in told:
                if action == "spawn" and self.state(worker) is State.STARTING:
                    self.scheduler.worker_ready(worker, self.now)
                elif action == "kill":
                    self.scheduler.worker_gone(worker, self.now)
        return seen

    def state(self, worker: str) -> State:
        return self.scheduler.state(worker)

    def admit(self, request: str, key: Key = AGENT, client: str = "c", **how: Any) -> None:
        self.scheduler.admit(request, key, client, self.now, **how)

    def release(self, worker: str, head: bytes | None = None, **how: Any) -> None:
        self.scheduler.release(worker, "its turn is over", self.now, head=head, **how)

    def converse(self, head: bytes, key: Key = AGENT, *, seconds: float = 1.0, **how: Any) -> str:
        """A first turn that ends with an idle worker at `head`; return the worker."""
        self.admit(f"first of {head!r}", key)
        told = [words for words in self.obey() if words[0] == "grant"]
        [(_, _, worker)] = told
        self.now += seconds
        self.release(worker, head, **how)
        assert self.state(worker) is State.IDLE
        self.obey()
        return worker

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.scheduler.tick(self.now)


def fail_starts(world: World) -> None:
    """Let starts fail until nobody is promised one any more."""
    for number in range(9):
        world.admit(f"fails {number}", CHAT)
        for action, worker, *_ in world.take():
            if action == "spawn":
                world.scheduler.worker_gone(worker, world.now, fault=NO_START)
        if world.scheduler.fault is not None:
            break
        wake = world.scheduler.wake_at(world.now)
        assert wake is not None
        world.now = wake
        world.scheduler.tick(world.now)
    world.take()
