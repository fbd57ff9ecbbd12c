"""The pool: the tasks behind the scheduler's decisions.

One task, the supervisor, calls the scheduler; everybody else leaves it a command. Each worker
lives in a task of its own. `Pool.lease` is how a request comes to a worker.
"""

import math
from collections.abc import Callable, Collection
from copy import copy
from functools import partial
from typing import Protocol, TypeAlias

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.lease import Lease
from maxd.daemon.observer import Observer
from maxd.daemon.scheduler import Scheduler
from maxd.daemon.slots import WAITING, Key, Limits, Slot
from maxd.workers.faults import Fault, ModelNotFound
from maxd.workers.launch import Launch
from maxd.workers.states import State
from maxd.workers.worker import Readiness, Worker

# What a CLI still has to do when it becomes idle, it would do in the turn it is thawed for: 0.15 s
# of CPU in the first 2 s after its start, and a garbage collection 10 s after any turn (2.1.330).
# Frozen 3 s after a turn, the first token of the next took 58 ms; after 12 s, as never frozen, 35.
# Until then it uses 0.4 % of a core.
SETTLE_SECONDS = 15.0

Command: TypeAlias = Callable[[float], None]
"""Something that has happened, told to the scheduler with the time (seconds, trio's clock)."""


class Launcher(Protocol):
    """Says how a worker is started now: with which CLI, environment and directory."""

    def __call__(self, worker: str, key: Key, session: str | None, /) -> Launch: ...


class Pool:
    """Workers, and the requests that wait for one. Implements the scheduler's Effects."""

    def __init__(
        self,
        limits: Limits,
        launcher: Launcher,
        log: FilteringBoundLogger,
        *,
        freeze_idle: bool = True,
        reuse_bytes: int = 600 * 2**20,
        on_ready: Callable[[Readiness], None] = lambda readiness: None,
        on_start_failed: Callable[[Fault], None] = lambda fault: None,
        observer: Observer | None = None,
    ) -> None:
        self._scheduler = Scheduler(limits, self)
        self._launcher = launcher
        self._log = log
        self._freeze_idle = freeze_idle
        self._reuse_bytes = reuse_bytes
        self._on_ready = on_ready
        self._on_start_failed = on_start_failed
        self._observer = observer or Observer()
        # The most there have been at once.
        self.most_workers = 0
        self.most_queued = 0
        # Whether it was closed for good.
        self.stopping = False
        self._workers: dict[str, Worker] = {}
        # When the starts of those that are ready began and ended.
        self._started: dict[str, tuple[float, float]] = {}
        # Why those that are being killed are.
        self._reasons: dict[str, str] = {}
        self._leases: dict[str, Lease] = {}
        self._count = 0
        self._nursery: trio.Nursery | None = None
        # Unbounded, and safe: each request and each worker has at most a few commands in it.
        self._tell, self._told = trio.open_memory_channel[Command](math.inf)

    def __repr__(self) -> str:
        return f"<Pool {self._scheduler!r}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The supervisor: runs until cancelled; then every worker's tree is killed, within 5 s."""
        async with trio.open_nursery() as self._nursery:
            # Behind what has been told already: perhaps that nothing can be served.
            self.tell(self._scheduler.tick)
            task_status.started()
            while True:
                wake = self._scheduler.wake_at(trio.current_time())
                command: Command = self._scheduler.tick
                with trio.move_on_at(math.inf if wake is None else wake):
                    command = await self._told.receive()
                command(trio.current_time())
                self.most_workers = max(self.most_workers, len(self._workers))
                self.most_queued = max(self.most_queued, self.queued)

    def tell(self, command: Command) -> None:
        """Leave the supervisor a command; never blocks."""
        self._tell.send_nowait(command)

    def open(self) -> None:
        """Requests can be served (again)."""
        self.tell(self._scheduler.open)

    def close(self, fault: Fault, *, for_good: bool = False) -> None:
        """Refuse every request with `fault` until `open`; turns that run go on. `for_good`: no
        `open` and no other `close` has an effect after this one."""
        self.stopping = self.stopping or for_good
        self.tell(partial(self._scheduler.close, fault, for_good=for_good))

    @property
    def fault(self) -> Fault | None:
        """Why requests are refused at the moment; None while they are served."""
        return self._scheduler.fault

    def counts(self) -> dict[State, int]:
        """Workers by state."""
        return self._scheduler.counts()

    @property
    def limits(self) -> Limits:
        """Those in force."""
        return self._scheduler.limits

    @property
    def queued(self) -> int:
        """Requests that wait for a worker."""
        return self._scheduler.queued

    def queue_age(self, now: float) -> float | None:
        """How long the request that waits longest has waited; None when none does."""
        since = (lease.asked_at for lease in self._leases.values() if lease.waits)
        oldest = min(since, default=None)
        return None if oldest is None else now - oldest

    def pids(self) -> list[int]:
        """The ids of the processes there are."""
        return [pid for _, pid in self.members() if pid is not None]

    def members(self) -> list[tuple[Slot, int | None]]:
        """Every worker that is not gone, with the id of its process while there is one."""
        members = []
        for slot in self._scheduler.slots:
            worker = self._workers.get(slot.worker)
            members.append((slot, None if worker is None else worker.pid))
        return members

    def holds(self, head: bytes) -> bool:
        """Whether an idle worker holds the conversation at `head`."""
        return self._scheduler.slots.holder(head) is not None

    def end(self, head: bytes) -> None:
        """Kill the idle worker that holds `head`, if there is one."""
        self.tell(partial(self._scheduler.end, head))

    def adapt(
        self,
        limits: Limits,
        *,
        freeze_idle: bool,
        reuse_bytes: int,
        changed: Collection[str] = (),
        removed: Collection[str] = (),
    ) -> None:
        """Have other limits and profiles from now on; `changed` and `removed` name those whose
        workers serve no further turn. No turn ends for it: what is too many, or of old, ends when
        it is idle, and at once if it is."""
        self._freeze_idle = freeze_idle
        self._reuse_bytes = reuse_bytes
        self.tell(partial(self._adapt, limits, changed, removed))

    def relieve(self) -> None:
        """Memory is short: end the worker that is missed least."""
        self.tell(self._scheduler.evict)

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
        """Ask for the idle worker that holds `head`, else one that resumes `session`, else one that
        can be reset to `root`, else one that is ready for `key`; `Lease.wait` waits for it.

        A request that is not `whole` has its new messages alone: only that worker can answer it,
        and without it the request is refused with ConversationGone.

        `client` is whom the queue is fair to. `again`: the request has lost a worker before and
        goes first among its client's.
        """
        self._count += 1
        request = f"r{self._count}"
        answering = partial(self.tell, partial(self._scheduler.answering, request))
        lease = self._leases[request] = Lease(partial(self._close, request, key), answering)
        admit = self._scheduler.admit
        wanted = partial(admit, request, key, client, head=head, root=root, session=session)
        self.tell(partial(wanted, whole=whole, again=again))
        return lease

    def _close(self, request: str, key: Key, lease: Lease) -> None:
        del self._leases[request]
        if lease.worker is None:
            self.tell(partial(self._scheduler.withdraw, request))
        else:
            reason = "its turn is over" if lease.finished else "its turn was cut short"
            self.tell(partial(self._release, lease.worker, reason, lease))
        if isinstance(lease.fault, ModelNotFound):
            self.tell(partial(self._scheduler.forget, key))

    def spawn(self, key: Key, session: str | None) -> str:
        assert self._nursery is not None
        self._count += 1
        worker = Worker(self._launcher(f"w{self._count}", key, session))
        self._workers[worker.launch.id] = worker
        self._observer.worker_started(worker.launch.id, key)
        self._nursery.start_soon(self._live, worker)
        return worker.launch.id

    def grant(self, request: str, worker: str, *, continues: bool, resets: bool) -> None:
        # A lease closed in this very moment is gone here; its withdrawal is among the commands.
        if (lease := self._leases.get(request)) is not None:
            self._workers[worker].thaw_nowait()
            lease.start = self._started.get(worker)
            lease.grant(self._workers[worker], continues=continues, resets=resets)

    def refuse(self, request: str, fault: Fault) -> None:
        if (lease := self._leases.get(request)) is not None:
            # A fault of its own: each raise adds the request's frames to what it raises.
            lease.refuse(copy(fault))

    def kill(self, worker: str, reason: str) -> None:
        self._log.debug("kill worker", worker=worker, reason=reason)
        self._reasons.setdefault(worker, reason)
        self._workers[worker].kill_nowait()

    async def _live(self, worker: Worker) -> None:
        started = trio.current_time()

        def ready(readiness: Readiness) -> None:
            now = trio.current_time()
            self._started[worker.launch.id] = started, now
            seconds = round(now - started, 3)
            told = {"pid": worker.pid, "after": seconds, "version": readiness.version}
            self._log.info("worker ready", worker=worker.launch.id, **told)
            self._observer.worker_ready(worker.launch.id, worker.pid, seconds)
            self._on_ready(readiness)
            self.tell(partial(self._worker_ready, worker))

        ended = await worker.live(ready)
        reason = self._reasons.pop(worker.launch.id, None)
        self._started.pop(worker.launch.id, None)
        self._observer.worker_gone(worker.launch.id, reason, ended.fault, stuck=ended.stuck)
        if ended.fault is None:
            stuck = ended.stuck
            self._log.info("worker gone", worker=worker.launch.id, reason=reason, stuck=stuck)
        else:
            self._log.warning(
                "worker died",
                worker=worker.launch.id,
                fault=ended.fault.message,
                stuck=ended.stuck,
                stderr=ended.stderr or None,
            )
        self.tell(partial(self._worker_gone, worker, ended.fault, ended.stuck))

    def _worker_ready(self, worker: Worker, now: float) -> None:
        self._scheduler.worker_ready(worker.launch.id, now)
        self._shed(now)
        self._settle(worker)

    def _release(self, worker: Worker, reason: str, lease: Lease, now: float) -> None:
        memory = worker.resident_bytes()
        lean = memory is not None and memory <= self._reuse_bytes
        self._scheduler.release(
            worker.launch.id,
            reason,
            now,
            head=lease.head if lease.finished else None,
            lenient=lease.lenient,
            parked=lease.parked,
            root=lease.root if lean else None,
        )
        self._shed(now)
        self._settle(worker)

    def _adapt(
        self, limits: Limits, changed: Collection[str], removed: Collection[str], now: float
    ) -> None:
        self._scheduler.adapt(limits, changed, removed, now)
        self._shed(now)

    def _shed(self, now: float) -> None:
        """End what is idle beyond a limit that was lowered while it was busy."""
        slots, most = self._scheduler.slots, self._scheduler.limits.max_workers
        while slots.live() - len(slots.of(State.ENDING)) > most:
            if not slots.of(State.SPARE, *WAITING):
                return
            self._scheduler.evict(now)

    def _settle(self, worker: Worker) -> None:
        if self._freeze_idle and (slot := self._waiting_slot(worker)) is not None:
            assert self._nursery is not None
            self._nursery.start_soon(self._freeze_later, worker, slot.turns)

    def _waiting_slot(self, worker: Worker) -> Slot | None:
        slot = self._scheduler.slots.get(worker.launch.id)
        waiting = slot is not None and slot.state in (State.SPARE, *WAITING)
        return slot if waiting else None

    async def _freeze_later(self, worker: Worker, turns: int) -> None:
        await trio.sleep(SETTLE_SECONDS)
        self.tell(partial(self._freeze, worker, turns))

    def _freeze(self, worker: Worker, turns: int, now: float) -> None:
        # With more turns by now it waits for less long, and has a timer of its own.
        if (slot := self._waiting_slot(worker)) is not None and slot.turns == turns:
            worker.freeze_nowait()

    def _worker_gone(self, worker: Worker, fault: Fault | None, stuck: bool, now: float) -> None:
        del self._workers[worker.launch.id]
        for lease in self._leases.values():
            if lease.worker is worker:
                lease.lose()
        self._scheduler.worker_gone(worker.launch.id, now, fault=fault, stuck=stuck)
        if self._scheduler.fault is not None:
            self._on_start_failed(self._scheduler.fault)
