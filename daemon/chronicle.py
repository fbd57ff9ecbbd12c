"""What the operator may want to know of what has been: totals, events, errors, a little history.

Nothing here holds text of a conversation; the reasons are those of faults, which hold none either.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from maxd.daemon.history import History, Point
from maxd.daemon.labels import Labels
from maxd.daemon.observer import Observer, Replied
from maxd.daemon.slots import Key
from maxd.daemon.turn_facts import CANCELLED, FINISHED, TurnFacts
from maxd.workers.faults import Fault

TURN_FAILED: Final = "its turn failed"
EVENTS_KEPT: Final = 50
ERRORS_KEPT: Final = 50
MOST_REASONS: Final = 64


class Totals(Struct, kw_only=True):
    """Counted since the daemon's start. `refused` are requests for a turn that never became one.
    Cost in US dollars by the CLI's own prices."""

    turns: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    input_tokens: int = 0
    cache_creation_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    workers_started: int = 0
    workers_killed: int = 0
    workers_died: int = 0
    kills_by_reason: dict[str, int] = {}


class Happened(Struct, frozen=True, kw_only=True):
    """An event: `what` in the words of the log. `at` in epoch seconds."""

    at: float
    what: str
    worker: str | None = None
    request: str | None = None
    model: str | None = None
    detail: str | None = None
    seconds: float | None = None


class Seen(Struct, frozen=True, kw_only=True):
    """An error: whose, and why. `at` in epoch seconds."""

    at: float
    what: str
    code: str
    reason: str
    worker: str | None = None
    request: str | None = None


class Member(Struct, kw_only=True):
    """What is remembered of a worker until it is gone. `active_at` in epoch seconds."""

    pid: int | None = None
    conversation: str | None = None
    active_at: float


class Chronicle(Observer):
    """Keeps count. `clock` gives epoch seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._reasons: Counter[str] = Counter()
        self._labels = Labels(MOST_REASONS)
        self._events: deque[Happened] = deque(maxlen=EVENTS_KEPT)
        self._errors: deque[Seen] = deque(maxlen=ERRORS_KEPT)
        self._history = History()
        self._totals = Totals()
        # Invariant: the workers that are neither gone nor counted as gone; those stuck stay.
        self.members: dict[str, Member] = {}

    def totals(self) -> Totals:
        self._totals.kills_by_reason = dict(self._reasons.most_common())
        return self._totals

    def events(self) -> list[Happened]:
        """The newest first."""
        return list(reversed(self._events))

    def errors(self) -> list[Seen]:
        """The newest first."""
        return list(reversed(self._errors))

    def history(self) -> list[Point]:
        return self._history.points(self._clock())

    def worker_started(self, worker: str, key: Key) -> None:
        self._totals.workers_started += 1
        self.members[worker] = Member(active_at=self._clock())

    def worker_ready(self, worker: str, pid: int | None, seconds: float) -> None:
        now = self._clock()
        self.members[worker] = Member(pid=pid, active_at=now)
        self._happened("worker ready", worker=worker, seconds=seconds)

    def worker_gone(
        self, worker: str, reason: str | None, fault: Fault | None, *, stuck: bool
    ) -> None:
        if not stuck:
            self.members.pop(worker, None)
        if fault is not None and fault.blame != "worker":
            # Its turn failed for another's fault, which the turn tells; then it was ended.
            fault, reason = None, TURN_FAILED
        if fault is not None:
            self._totals.workers_died += 1
            self._error("worker died", fault, worker=worker)
        elif reason is not None:
            self._totals.workers_killed += 1
            self._reasons[self._labels.of(reason)] += 1
        what = "worker stuck" if stuck else "worker gone" if fault is None else "worker died"
        detail = reason if fault is None else fault.message
        self._happened(what, worker=worker, detail=detail)

    def turn_ended(self, facts: TurnFacts) -> None:
        totals = self._totals
        totals.turns += 1
        totals.finished += facts.outcome == FINISHED
        totals.cancelled += facts.outcome == CANCELLED
        totals.failed += facts.failed
        if facts.usage is not None:
            totals.input_tokens += facts.usage.input_tokens
            totals.cache_creation_tokens += facts.usage.cache_creation_tokens
            totals.cache_read_tokens += facts.usage.cache_read_tokens
            totals.output_tokens += facts.usage.output_tokens
        totals.cost_usd += facts.cost
        now = self._clock()
        self._history.add(facts, now)
        if facts.worker is not None and (member := self.members.get(facts.worker)) is not None:
            member.conversation, member.active_at = facts.conversation, now
        self._happened(
            "turn",
            worker=facts.worker,
            request=facts.request,
            model=f"{facts.model}:{facts.profile}",
            detail=facts.outcome,
            seconds=facts.timings.total,
        )
        if facts.failed:
            seen = Seen(
                at=now,
                what="turn",
                code=facts.outcome,
                reason=facts.reason or "",
                worker=facts.worker,
                request=facts.request,
            )
            self._errors.append(seen)

    def replied(self, reply: Replied) -> None:
        if reply.method == "POST" and not reply.turn and (reply.status or 0) >= 400:
            self._totals.refused += 1

    def cli_changed(self, fault: Fault | None) -> None:
        if fault is None:
            self._happened("claude CLI can be used")
        else:
            self._happened("claude CLI cannot be used", detail=fault.message)
            self._error("claude CLI", fault)

    def _happened(
        self,
        what: str,
        *,
        worker: str | None = None,
        request: str | None = None,
        model: str | None = None,
        detail: str | None = None,
        seconds: float | None = None,
    ) -> None:
        event = Happened(
            at=self._clock(),
            what=what,
            worker=worker,
            request=request,
            model=model,
            detail=detail,
            seconds=seconds,
        )
        self._events.append(event)

    def _error(self, what: str, fault: Fault, *, worker: str | None = None) -> None:
        code = fault.code or fault.blame
        reason = fault.message
        self._errors.append(
            Seen(at=self._clock(), what=what, code=code, reason=reason, worker=worker)
        )
