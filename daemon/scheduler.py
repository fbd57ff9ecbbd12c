"""Which worker serves which request, and which workers there are: pure and synchronous.

Every method is one thing that has happened; each ends in `_assign`, which decides everything anew
and acts through `Effects`. One task calls it, nothing blocks, so there are no locks, and a test
needs no process and no clock. Every request that is admitted ends granted, refused or withdrawn.
"""

from collections import Counter
from typing import Protocol

from maxd.daemon.backoff import Backoff
from maxd.daemon.fair_queue import FairQueue
from maxd.daemon.slots import Key, Limits, Slot, Waiter
from maxd.workers.faults import ConversationGone, Fault, Overloaded, WorkerStartFailed
from maxd.workers.states import Happening, State, after

GONE = "the context of this conversation is gone; send its whole history"


class Effects(Protocol):
    """What the scheduler can do. None of these may call back into the scheduler."""

    def spawn(self, key: Key) -> str:
        """Start a worker in the background; return its id. It will be ready, or gone."""

    def grant(self, request: str, worker: str, *, continues: bool) -> None:
        """Lease `worker` to the request: a spare, or the idle one that holds its conversation."""

    def refuse(self, request: str, fault: Fault) -> None:
        """End the request unserved."""

    def kill(self, worker: str, reason: str) -> None:
        """Kill the worker's tree in the background. It will be gone, or stuck."""


class Scheduler:
    """Keeps spares ready, queues requests fairly, and leases the ones to the others."""

    def __init__(self, limits: Limits, effects: Effects) -> None:
        self.limits = limits
        self._effects = effects
        self._queue: FairQueue[Waiter] = FairQueue()
        # Invariant: a request is in _waiting exactly while it is in _queue; in order of arrival.
        self._waiting: dict[str, Waiter] = {}
        # Invariant: how many of those that wait need which key; holds no zero.
        self._needed: Counter[Key] = Counter()
        # Invariant: holds no worker that is GONE. Those that are STUCK stay, to be seen.
        self._slots: dict[str, Slot] = {}
        # The key used last is last. No more than can have spares: clients may make up model ids.
        self._last_used: dict[Key, float] = {}
        # Leases whose turn the service has not answered yet: until when they hold up refills.
        self._held: dict[str, float] = {}
        self._backoff = Backoff()
        self._start_fault: Fault | None = None
        # Set while nothing can be served at all: no CLI, logged out, stopping.
        self._closed: Fault | None = None
        self._closed_for_good = False

    def __repr__(self) -> str:
        states = [f"{n} {state}" for state, n in self.counts().items() if n]
        return f"<Scheduler {', '.join(states) or 'no workers'}, {self.queued} queued>"

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def fault(self) -> Fault | None:
        """Why requests are refused at the moment; None while they are served."""
        if self._closed is not None:
            return self._closed
        return self._start_fault if self._backoff.degraded else None

    def counts(self) -> dict[State, int]:
        """Workers by state."""
        counts = dict.fromkeys(State, 0)
        for slot in self._slots.values():
            counts[slot.state] += 1
        return counts

    def state(self, worker: str) -> State:
        """The state of a worker; GONE when there is no such worker."""
        slot = self._slots.get(worker)
        return State.GONE if slot is None else slot.state

    def admit(
        self,
        request: str,
        key: Key,
        client: str,
        now: float,
        *,
        head: bytes | None = None,
        whole: bool = True,
        again: bool = False,
    ) -> None:
        """A request has come. An idle worker that holds its `head` is leased to it at once; one
        that is not `whole` can be answered by no other.
        `again`: it lost its worker before anything was accepted, and goes first in its client's
        line."""
        self._use(key, now)
        if head is not None and self._closed is None and (slot := self._holder(head)) is not None:
            self._lease(slot, request, continues=True)
        elif self._closed is None and not whole:
            self._effects.refuse(request, ConversationGone(GONE, param="X-Conversation-Id"))
        elif (fault := self._refusal(key, now, again=again)) is not None:
            self._effects.refuse(request, fault)
        else:
            waiter = Waiter(request, key, client, now)
            self._waiting[request] = waiter
            self._needed[key] += 1
            if again:
                self._queue.prepend(waiter)
            else:
                self._queue.append(waiter)
        self._assign(now)

    def withdraw(self, request: str, now: float) -> None:
        """The client of a request has gone. A worker that was granted meanwhile is killed."""
        if (waiter := self._waiting.get(request)) is not None:
            self._unqueue(waiter)
        for slot in self._slots.values():
            if slot.request == request and slot.state is State.LEASED:
                self._kill(slot, "its client went away")
        self._assign(now)

    def holds(self, head: bytes) -> bool:
        """Whether an idle worker holds the conversation at `head`."""
        return self._holder(head) is not None

    def end(self, head: bytes, now: float) -> None:
        """The conversation at `head` is not wanted any more."""
        if (slot := self._holder(head)) is not None:
            self._kill(slot, "its conversation was deleted")
        self._assign(now)

    def answering(self, request: str, now: float) -> None:
        """The service has begun to answer the turn of a lease."""
        if self._held.pop(request, None) is not None:
            self._assign(now)

    def release(self, worker: str, reason: str, now: float, *, head: bytes | None = None) -> None:
        """A lease has ended. With a `head` the worker waits for its conversation's next turn;
        without one nobody can claim what it holds, and it is killed."""
        slot = self._slots.get(worker)
        if slot is not None and slot.state is State.LEASED:
            if head is None or self._closed is not None:
                self._kill(slot, reason)
            else:
                slot.state = after(slot.state, Happening.FINISH)
                self._held.pop(slot.request or "", None)
                slot.request, slot.head, slot.idle_since = None, head, now
        self._assign(now)

    def forget(self, key: Key, now: float) -> None:
        """Nothing can be had from `key` (an unknown model): keep no spares of it."""
        self._last_used.pop(key, None)
        self._assign(now)

    def worker_ready(self, worker: str, now: float) -> None:
        """A worker has answered on stdin."""
        slot = self._slots[worker]
        if slot.state is State.STARTING:
            slot.state = after(slot.state, Happening.READY)
            self._backoff.succeeded(now)
            self._start_fault = None
        self._assign(now)

    def worker_gone(
        self, worker: str, now: float, *, fault: Fault | None = None, stuck: bool = False
    ) -> None:
        """A worker has ended, by our hand or by itself. `fault`: why, when it was not ours.
        `stuck`: its tree could not be killed; its slot is given back and it stays in sight."""
        slot = self._slots[worker]
        if slot.state in (State.STARTING, State.SPARE) and fault is not None:
            self._backoff.failed(now)
            # A spare's WorkerDied would tell a request that is refused that it had a worker.
            wait = max(1.0, self._backoff.not_before() - now)
            self._start_fault = WorkerStartFailed(fault.message, retry_after=wait)
            if self._backoff.degraded:
                self._refuse_all(self._start_fault)
        if slot.state is not State.ENDING:
            slot.state = after(slot.state, Happening.KILL)
        slot.state = after(slot.state, Happening.STUCK if stuck else Happening.GONE)
        if slot.request is not None:
            self._held.pop(slot.request, None)
        slot.request = None
        if slot.state is State.GONE:
            del self._slots[worker]
        self._assign(now)

    def close(self, fault: Fault, now: float, *, for_good: bool = False) -> None:
        """Nothing can be served from now on: refuse who waits, and kill the spares. `for_good`:
        the daemon is stopping, and a CLI that is found or lost meanwhile changes nothing."""
        if self._closed_for_good:
            return
        self._closed = fault
        self._closed_for_good = for_good
        self._refuse_all(fault)
        for slot in self._slots.values():
            if slot.state in (State.STARTING, State.SPARE, State.IDLE):
                self._kill(slot, "nothing can be served")
        self._assign(now)

    def open(self, now: float) -> None:
        """Requests can be served (again). What failed before is no reason to wait any more."""
        if self._closed_for_good:
            return
        self._closed = None
        self._backoff = Backoff()
        self._start_fault = None
        self._assign(now)

    def tick(self, now: float) -> None:
        """Time has passed; see `wake_at`."""
        self._assign(now)

    def wake_at(self, now: float) -> float | None:
        """When `tick` must be called though nothing happened: a waiter is too old, a start is
        allowed again, a spare is no longer wanted. None: never."""
        times = []
        if (oldest := self._oldest()) is not None:
            times.append(oldest.since + self.limits.queue_seconds)
        if self._backoff.not_before() > now:
            times.append(self._backoff.not_before())
        idle = (slot for slot in self._slots.values() if slot.state is State.IDLE)
        times.extend(slot.idle_since + self.limits.idle_seconds for slot in idle)
        if self._closed is None:
            times.extend(until for until in self._held.values() if until > now)
            ends = (used + self.limits.warm_seconds for used in self._last_used.values())
            times.extend(end for end in ends if end > now)
        return min(times, default=None)

    def _refusal(self, key: Key, now: float, *, again: bool) -> Fault | None:
        """Why a new request cannot even wait."""
        if self._closed is not None:
            return self._closed
        if self._spare(key) is not None:
            return None
        # Where a start may be tried, the request may wait for how it ends: without any key to keep
        # spares of, nothing else would ever find out that the CLI works again.
        if self._backoff.degraded and self._starts_allowed(now) <= 0:
            return self._start_fault
        if len(self._waiting) >= self.limits.queue_length and not again:
            return Overloaded("too many requests are waiting; try later")
        return None

    def _assign(self, now: float) -> None:
        """Decide everything anew. With a thousand requests in the queue this is called a thousand
        times in a row, so no step of it walks through the whole queue."""
        self._grant(now)
        self._refuse_too_old(now)
        self._end_idle(now)
        if self._closed is None:
            self._make_room(now)
            self._keep_spares(now)

    def _grant(self, now: float) -> None:
        """Lease every spare that somebody waits for."""
        spares: dict[Key, list[Slot]] = {}
        for slot in self._slots.values():
            if slot.state is State.SPARE:
                of_key = spares.get(slot.key, [])
                if len(of_key) < self._needed[slot.key]:
                    spares[slot.key] = [*of_key, slot]
        leases: list[tuple[Waiter, Slot]] = []
        queue = iter(self._queue)
        while spares:
            waiter = next(queue)
            if waiter.key in spares:
                slot, *rest = spares.pop(waiter.key)
                leases.append((waiter, slot))
                if rest:
                    spares[waiter.key] = rest
        for waiter, slot in leases:
            self._forget_waiter(waiter)
            self._queue.serve(waiter)
            self._held[waiter.request] = now + self.limits.refill_seconds
            self._lease(slot, waiter.request, continues=False)

    def _lease(self, slot: Slot, request: str, *, continues: bool) -> None:
        slot.state = after(slot.state, Happening.LEASE)
        slot.request, slot.head = request, None
        self._effects.grant(request, slot.worker, continues=continues)

    def _end_idle(self, now: float) -> None:
        for slot in self._slots.values():
            if slot.state is State.IDLE and now >= slot.idle_since + self.limits.idle_seconds:
                self._kill(slot, "its conversation was idle for long")

    def _refuse_too_old(self, now: float) -> None:
        seconds = self.limits.queue_seconds
        while (oldest := self._oldest()) is not None and now >= oldest.since + seconds:
            self._unqueue(oldest)
            fault = self._start_fault or Overloaded(f"waited {seconds:.0f} s for a free worker")
            self._effects.refuse(oldest.request, fault)

    def _make_room(self, now: float) -> None:
        """Start a worker for everyone who waits, as far as there is room; a spare that nobody
        waits for makes room for one that somebody does."""
        allowed = self._starts_allowed(now)
        starting = self._starting_by_key()
        coming = sum(1 for slot in self._slots.values() if slot.state is State.ENDING)
        for waiter in self._queue:
            if starting[waiter.key]:
                starting[waiter.key] -= 1
                continue
            if allowed <= 0:
                return
            allowed -= 1
            if self._live() < self.limits.max_workers:
                self._spawn(waiter.key)
            elif coming:
                coming -= 1
            elif (slot := self._any_spare() or self._longest_idle()) is not None:
                self._kill(slot, "its room is needed")
            else:
                return

    def _keep_spares(self, now: float) -> None:
        """Have `spares` of each wanted key, and none of the others. Who waits comes first, and so
        does a turn that has just begun."""
        wanted = self._wanted(now)
        left = Counter(dict.fromkeys(wanted, self.limits.spares))
        for slot in self._slots.values():
            if slot.state is State.SPARE:
                left[slot.key] -= 1
                if left[slot.key] < 0:
                    self._kill(slot, "no longer wanted")
        self._held = {request: until for request, until in self._held.items() if now < until}
        if self._queue or self._held:
            return
        left.subtract(self._starting_by_key())
        self._make_room_for_spares(left)
        allowed = min(self._starts_allowed(now), self.limits.max_workers - self._live())
        for key in wanted:
            for _ in range(min(left[key], allowed)):
                self._spawn(key)
                allowed -= 1

    def _make_room_for_spares(self, left: Counter[Key]) -> None:
        """End idle conversations where they leave no room for spares. Spares are worth at most
        half of the pool: without them every new conversation waits for a start."""
        missing = sum(count for count in left.values() if count > 0)
        have = self._count(State.SPARE) + self._count(State.STARTING)
        coming = self.limits.max_workers - self._live() + self._count(State.ENDING)
        for _ in range(min(missing, self.limits.max_workers // 2 - have) - coming):
            if (slot := self._longest_idle()) is None:
                return
            self._kill(slot, "its room is needed for a spare")

    def _wanted(self, now: float) -> list[Key]:
        """The keys to keep spares of, the most recently used first."""
        seconds = self.limits.warm_seconds
        self._last_used = {key: at for key, at in self._last_used.items() if now < at + seconds}
        return list(dict.fromkeys((*reversed(self._last_used), *self.limits.warm)))

    def _use(self, key: Key, now: float) -> None:
        self._last_used.pop(key, None)
        self._last_used[key] = now
        if len(self._last_used) > self.limits.max_workers:
            del self._last_used[next(iter(self._last_used))]

    def _starts_allowed(self, now: float) -> int:
        """How many workers may be started now, were there room; negative for too many already."""
        if now < self._backoff.not_before():
            return 0
        # After a failure one start at a time is the question whether it works again.
        most = 1 if self._start_fault is not None else self.limits.max_starting
        return most - self._starting_by_key().total()

    def _live(self) -> int:
        """Workers that take up a slot."""
        return sum(1 for slot in self._slots.values() if slot.state is not State.STUCK)

    def _starting_by_key(self) -> Counter[Key]:
        slots = self._slots.values()
        return Counter(slot.key for slot in slots if slot.state is State.STARTING)

    def _oldest(self) -> Waiter | None:
        return next(iter(self._waiting.values()), None)

    def _spare(self, key: Key) -> Slot | None:
        for slot in self._slots.values():
            if slot.state is State.SPARE and slot.key == key:
                return slot
        return None

    def _any_spare(self) -> Slot | None:
        """The spare whose key was used longest ago. Called when no waiter can use any."""
        spares = [slot for slot in self._slots.values() if slot.state is State.SPARE]
        return min(spares, key=lambda s: self._last_used.get(s.key, 0.0), default=None)

    def _holder(self, head: bytes) -> Slot | None:
        """An idle worker whose conversation is at `head`. Two may be: equal conversations."""
        for slot in self._slots.values():
            if slot.state is State.IDLE and slot.head == head:
                return slot
        return None

    def _longest_idle(self) -> Slot | None:
        idle = [slot for slot in self._slots.values() if slot.state is State.IDLE]
        return min(idle, key=lambda slot: slot.idle_since, default=None)

    def _count(self, state: State) -> int:
        return sum(1 for slot in self._slots.values() if slot.state is state)

    def _spawn(self, key: Key) -> None:
        worker = self._effects.spawn(key)
        self._slots[worker] = Slot(worker, key, State.STARTING)

    def _kill(self, slot: Slot, reason: str) -> None:
        if slot.request is not None:
            self._held.pop(slot.request, None)
        slot.state = after(slot.state, Happening.KILL)
        self._effects.kill(slot.worker, reason)

    def _unqueue(self, waiter: Waiter) -> None:
        self._forget_waiter(waiter)
        self._queue.remove(waiter)

    def _forget_waiter(self, waiter: Waiter) -> None:
        del self._waiting[waiter.request]
        self._needed[waiter.key] -= 1
        if not self._needed[waiter.key]:
            del self._needed[waiter.key]

    def _refuse_all(self, fault: Fault) -> None:
        for waiter in list(self._queue):
            self._unqueue(waiter)
            self._effects.refuse(waiter.request, fault)
