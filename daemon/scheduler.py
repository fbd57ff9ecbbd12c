"""Which worker serves which request, and which workers there are: pure and synchronous.

Every method is one thing that has happened; each ends in `_assign`, which decides everything anew
and acts through `Effects`. One task calls it, nothing blocks, so there are no locks, and a test
needs no process and no clock. Every request that is admitted ends granted, refused or withdrawn.
"""

from collections import Counter
from collections.abc import Collection

from maxd.daemon.effects import Effects
from maxd.daemon.fair_queue import FairQueue
from maxd.daemon.recent_keys import RecentKeys
from maxd.daemon.refill import plan_refill
from maxd.daemon.slots import WAITING, Key, Limits, Slot, Slots, Waiter
from maxd.daemon.starts import Starts
from maxd.workers.faults import ConversationGone, Fault, Overloaded, SessionLost
from maxd.workers.states import Happening, State, after

GONE = "the context of this conversation is gone; send its whole history"


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
        self.slots = Slots()
        # No more keys than can have spares.
        self._recent = RecentKeys(limits.max_workers, limits.warm_seconds)
        # Leases whose turn the service has not answered yet: until when they hold up refills.
        self._held: dict[str, float] = {}
        self._starts = Starts(limits.max_starting)
        self._closed: Fault | None = None  # No CLI, logged out, or stopping.
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
        return self._closed or (self._starts.fault if self._starts.degraded else None)

    def counts(self) -> dict[State, int]:
        """Workers by state."""
        return {state: len(self.slots.of(state)) for state in State}

    def state(self, worker: str) -> State:
        """The state of a worker; GONE when there is no such worker."""
        slot = self.slots.get(worker)
        return State.GONE if slot is None else slot.state

    def admit(
        self,
        request: str,
        key: Key,
        client: str,
        now: float,
        *,
        head: bytes | None = None,
        root: bytes | None = None,
        session: str | None = None,
        whole: bool = True,
        again: bool = False,
    ) -> None:
        """A request has come. The idle worker that holds its `head` is leased to it at once, or
        else one is started that resumes its `session`; a request that is not `whole` can be
        answered by no other. `root`: an idle worker of this binding may be reset for it. `again`:
        it lost its worker before anything was accepted, and goes first in its client's line."""
        self._recent.use(key, now)
        open_ = self._closed is None
        if open_ and head is not None and (slot := self.slots.holder(head)) is not None:
            self._lease(slot, request, continues=True)
        elif open_ and session is None and not whole:
            self._effects.refuse(request, ConversationGone(GONE, param="X-Conversation-Id"))
        elif open_ and session is None and root is not None and (slot := self._reusable(key, root)):
            self._lease(slot, request, resets=True)
        elif (fault := self._refusal(key, now, again=again)) is not None:
            self._effects.refuse(request, fault)
        else:
            waiter = Waiter(request, key, client, now, session, whole)
            self._waiting[request] = waiter
            self._needed[key] += session is None
            if again:
                self._queue.prepend(waiter)
            else:
                self._queue.append(waiter)
        self._assign(now)

    def withdraw(self, request: str, now: float) -> None:
        """The client of a request has gone. A worker that was granted meanwhile is killed."""
        if (waiter := self._waiting.get(request)) is not None:
            self._unqueue(waiter)
        for slot in self.slots:
            mine = slot.request == request and slot.state is State.LEASED
            if mine or (slot.reserved == request and slot.state is not State.ENDING):
                self._kill(slot, "its client went away")
        self._assign(now)

    def end(self, head: bytes, now: float) -> None:
        """The conversation at `head` is not wanted any more."""
        if (slot := self.slots.exact_holder(head)) is not None:
            self._kill(slot, "its conversation was deleted")
        self._assign(now)

    def evict(self, now: float) -> None:
        """Memory is short: end the worker that is missed least."""
        slot = self.slots.longest_idle() or self.slots.least_used_spare(self._recent.used)
        if slot is not None:
            self._kill(slot, "memory is short")
        self._assign(now)

    def answering(self, request: str, now: float) -> None:
        """The service has begun to answer the turn of a lease."""
        if self._held.pop(request, None) is not None:
            self._assign(now)

    def release(
        self,
        worker: str,
        reason: str,
        now: float,
        *,
        head: bytes | None = None,
        lenient: bytes | None = None,
        root: bytes | None = None,
        parked: bool = False,
    ) -> None:
        """A lease has ended. With a `head` the worker waits for its conversation's next turn, or
        is `parked`; without one nobody can claim what it holds, and it is killed. With a `root` it
        may be reset for another conversation of the same binding, unless it is parked."""
        slot = self.slots.get(worker)
        if slot is not None and slot.state is State.LEASED:
            if head is None or self._closed is not None:
                self._kill(slot, reason)
            else:
                slot.state = after(slot.state, Happening.PARK if parked else Happening.FINISH)
                self._held.pop(slot.request or "", None)
                slot.turns += 1
                slot.request, slot.idle_since = None, now
                slot.head, slot.lenient = head, lenient
                slot.root = root if slot.turns < self.limits.reuse_turns and not parked else None
        self._assign(now)

    def adapt(
        self, limits: Limits, old: Collection[str], gone: Collection[str], now: float
    ) -> None:
        """Other limits are in force, and workers of the profiles `old` (changed) and `gone` (no
        more there) serve no further turn."""
        self.limits = limits
        self._recent.adapt(limits.max_workers, limits.warm_seconds, without=gone)
        self.slots.outdate({*old, *gone})
        self._assign(now)

    def forget(self, key: Key, now: float) -> None:
        """Nothing can be had from `key` (an unknown model): keep no spares of it."""
        self._recent.forget(key)
        self._assign(now)

    def worker_ready(self, worker: str, now: float) -> None:
        """A worker has answered on stdin."""
        slot = self.slots[worker]
        if slot.state is State.STARTING:
            slot.state = after(slot.state, Happening.READY)
            self._starts.succeeded(now)
            if slot.reserved is not None:
                self._serve_reserved(slot, slot.reserved)
        self._assign(now)

    def _serve_reserved(self, slot: Slot, request: str) -> None:
        slot.reserved = None
        if (waiter := self._waiting.get(request)) is None:
            self._kill(slot, "its request was refused meanwhile")
            return
        self._forget_waiter(waiter)
        self._queue.serve(waiter)
        self._lease(slot, request, continues=True)

    def worker_gone(
        self, worker: str, now: float, *, fault: Fault | None = None, stuck: bool = False
    ) -> None:
        """A worker has ended, by our hand or by itself. `fault`: why, when it was not ours.
        `stuck`: its tree could not be killed; its slot is given back and it stays in sight."""
        slot = self.slots[worker]
        if fault is not None and slot.state in (State.STARTING, State.SPARE):
            if not isinstance(fault, SessionLost):
                self._starts.failed(fault, now)
            if slot.reserved is not None and (waiter := self._waiting.get(slot.reserved)):
                self._import_instead(waiter)
            # Only now: who waits when another kind of worker ends waits for a start to be tried.
            if self._starts.degraded and self._starts.fault is not None:
                self._refuse_all(self._starts.fault)
        if slot.state is not State.ENDING:
            slot.state = after(slot.state, Happening.KILL)
        slot.state = after(slot.state, Happening.STUCK if stuck else Happening.GONE)
        self._held.pop(slot.request or "", None)
        slot.request = slot.reserved = None
        if slot.state is State.GONE:
            self.slots.remove(slot)
        self._assign(now)

    def _import_instead(self, waiter: Waiter) -> None:
        """The session of a request that waits cannot be resumed."""
        if waiter.whole:
            waiter.session = None
            self._needed[waiter.key] += 1
        else:
            self._unqueue(waiter)
            self._effects.refuse(waiter.request, ConversationGone(GONE, param="X-Conversation-Id"))

    def close(self, fault: Fault, now: float, *, for_good: bool = False) -> None:
        """Nothing can be served from now on: refuse who waits, and kill the spares. `for_good`:
        the daemon is stopping, and a CLI that is found or lost meanwhile changes nothing."""
        if self._closed_for_good:
            return
        self._closed = fault
        self._closed_for_good = for_good
        self._refuse_all(fault)
        for slot in self.slots.of(State.STARTING, State.SPARE, *WAITING):
            self._kill(slot, "nothing can be served")
        self._assign(now)

    def open(self, now: float) -> None:
        """Requests can be served (again). What failed before is no reason to wait any more."""
        if self._closed_for_good:
            return
        self._closed = None
        self._starts.forgive()
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
        if self._starts.not_before() > now:
            times.append(self._starts.not_before())
        seconds = self.limits.idle_seconds
        times.extend(slot.idle_since + seconds for slot in self.slots.of(*WAITING))
        if self._closed is None:
            times.extend(until for until in self._held.values() if until > now)
            times.extend(self._recent.ends(now))
        return min(times, default=None)

    def _refusal(self, key: Key, now: float, *, again: bool) -> Fault | None:
        """Why a new request cannot even wait."""
        if self._closed is not None:
            return self._closed
        if self.slots.spare(key) is not None:
            return None
        # Where a start may be tried, the request may wait for how it ends: without any key to keep
        # spares of, nothing else would ever find out that the CLI works again.
        if self._starts.degraded and self._starts_allowed(now) <= 0:
            return self._starts.fault
        if len(self._waiting) >= self.limits.queue_length and not again:
            return Overloaded("too many requests are waiting; try later")
        return None

    def _assign(self, now: float) -> None:
        """Decide everything anew. With a thousand requests in the queue this is called a thousand
        times in a row, so no step of it walks through the whole queue."""
        self._grant(now)
        self._refuse_too_old(now)
        for slot, reason in self.slots.overdue(self.limits, now):
            self._kill(slot, reason)
        if self._closed is None:
            self._make_room(now)
            self._keep_spares(now)

    def _grant(self, now: float) -> None:
        """Lease every spare that somebody waits for."""
        spares = self.slots.spares(self._needed)
        leases: list[tuple[Waiter, Slot]] = []
        queue = iter(self._queue)
        while spares:
            waiter = next(queue)
            if waiter.key in spares and waiter.session is None:
                slot, *rest = spares.pop(waiter.key)
                leases.append((waiter, slot))
                if rest:
                    spares[waiter.key] = rest
        for waiter, slot in leases:
            self._forget_waiter(waiter)
            self._queue.serve(waiter)
            self._held[waiter.request] = now + self.limits.refill_seconds
            self._lease(slot, waiter.request)

    def _lease(
        self, slot: Slot, request: str, *, continues: bool = False, resets: bool = False
    ) -> None:
        slot.state = after(slot.state, Happening.LEASE)
        slot.request, slot.head, slot.lenient = request, None, None
        self._effects.grant(request, slot.worker, continues=continues, resets=resets)

    def _reusable(self, key: Key, root: bytes) -> Slot | None:
        """An idle worker of this binding to be reset for a new conversation: where there are so
        many that the oldest is hardly missed, or nothing else that would answer at once."""
        idle = self.slots.idle_with_root(root)
        if idle and (len(idle) >= self.limits.reuse_after or self.slots.spare(key) is None):
            return idle[0]
        return None

    def _refuse_too_old(self, now: float) -> None:
        seconds = self.limits.queue_seconds
        while (oldest := self._oldest()) is not None and now >= oldest.since + seconds:
            self._unqueue(oldest)
            fault = self._starts.fault or Overloaded(f"waited {seconds:.0f} s for a free worker")
            self._effects.refuse(oldest.request, fault)

    def _make_room(self, now: float) -> None:
        """Start a worker for everyone who waits, as far as there is room; a spare that nobody
        waits for makes room for one that somebody does, and so does an idle conversation."""
        allowed = self._starts_allowed(now)
        starting = self.slots.starting()
        coming = len(self.slots.of(State.ENDING))
        for waiter in self._queue:
            if waiter.session is None and starting[waiter.key]:
                starting[waiter.key] -= 1
                continue
            if waiter.session is not None and self.slots.reserved(waiter.request) is not None:
                continue
            if allowed <= 0:
                return
            allowed -= 1
            if self.slots.live() < self.limits.max_workers:
                self._spawn(waiter.key, waiter)
            elif coming:
                coming -= 1
            elif slot := self.slots.dispensable(self._recent.used):
                self._kill(slot, "its room is needed")
            else:
                return

    def _keep_spares(self, now: float) -> None:
        """Have spares of each wanted key, and none of the others. Who waits comes first, and so
        does a turn that has just begun."""
        allowed = self._starts_allowed(now)
        wanted = self._recent.wanted(now, self.limits.warm)
        plan = plan_refill(self.slots, self.limits, wanted, allowed)
        for slot in plan.surplus:
            self._kill(slot, "no longer wanted")
        self._held = {request: until for request, until in self._held.items() if now < until}
        if self._queue or self._held:
            return
        for slot in plan.victims:
            self._kill(slot, "its room is needed for a spare")
        allowed = min(allowed, self.limits.max_workers - self.slots.live())
        for key in plan.missing[: max(0, allowed)]:
            self._spawn(key)

    def _starts_allowed(self, now: float) -> int:
        return self._starts.allowed(now, len(self.slots.of(State.STARTING)))

    def _oldest(self) -> Waiter | None:
        return next(iter(self._waiting.values()), None)

    def _spawn(self, key: Key, waiter: Waiter | None = None) -> None:
        session = None if waiter is None else waiter.session
        slot = Slot(self._effects.spawn(key, session), key, State.STARTING)
        if waiter is not None and session is not None:
            slot.reserved = waiter.request
        self.slots.add(slot)

    def _kill(self, slot: Slot, reason: str) -> None:
        self._held.pop(slot.request or "", None)
        slot.state = after(slot.state, Happening.KILL)
        self._effects.kill(slot.worker, reason)

    def _unqueue(self, waiter: Waiter) -> None:
        self._forget_waiter(waiter)
        self._queue.remove(waiter)

    def _forget_waiter(self, waiter: Waiter) -> None:
        del self._waiting[waiter.request]
        self._needed[waiter.key] -= waiter.session is None
        if not self._needed[waiter.key]:
            del self._needed[waiter.key]

    def _refuse_all(self, fault: Fault) -> None:
        for waiter in list(self._queue):
            self._unqueue(waiter)
            self._effects.refuse(waiter.request, fault)
