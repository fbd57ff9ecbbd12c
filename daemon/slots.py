"""What the scheduler keeps in mind: keys, limits, who waits, and one slot for each worker."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from maxd.workers.states import State


class Key(NamedTuple):
    """What a spare is ready for."""

    profile: str
    model: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many and how long; times in seconds."""

    max_workers: int
    max_starting: int
    spares: int
    warm: tuple[Key, ...]
    warm_seconds: float
    queue_length: int
    queue_seconds: float
    idle_seconds: float = 3600.0
    """How long a worker is kept for the next turn of its conversation."""
    max_parked: int = 1024
    """How many workers may wait for results of the client's functions; beyond, the one that has
    waited longest ends, and its conversation is imported when the results come."""
    reuse_after: int = 2
    """Idle conversations of one binding beyond which a new one of it takes over the oldest's
    worker instead of a spare: a reset costs 40 ms of CPU, a process 600."""
    reuse_turns: int = 200
    """Turns after which a worker is not reused: each leaves a few hundred kilobytes behind."""
    refill_seconds: float = 0.5
    """How long a refill waits for the service to answer the turn that took the spare: a start
    beside it costs that turn up to half of its first token's time on two processors."""


@dataclass(eq=False)
class Waiter:
    request: str
    key: Key
    client: str
    since: float
    session: str | None = None
    """The CLI's session that holds its history: a worker that resumes it is started for it."""
    whole: bool = True
    """Whether it has its whole history, so that any worker can answer it."""


@dataclass(eq=False)
class Slot:
    """One worker as the scheduler sees it."""

    worker: str
    key: Key
    state: State
    request: str | None = None
    head: bytes | None = None
    """Of an idle worker: what its conversation is known by (see lineage)."""
    lenient: bytes | None = None
    """What else it is known by, for clients that take their last message out again."""
    root: bytes | None = None
    """What its conversation bound it to, where it may be reset for another of the same binding."""
    idle_since: float = 0.0
    turns: int = 0
    reserved: str | None = None
    """The request it was started for, with that request's session."""
    outdated: bool = False
    """Its profile has been changed since it was started: it serves no further turn."""


# They hold a conversation, and wait for its next turn.
WAITING = (State.IDLE, State.PARKED)


class Slots:
    """The slots of all workers that are not GONE, and what is asked of them."""

    def __init__(self) -> None:
        # Those that are STUCK stay, to be seen.
        self._slots: dict[str, Slot] = {}

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots.values()))

    def __getitem__(self, worker: str) -> Slot:
        return self._slots[worker]

    def get(self, worker: str) -> Slot | None:
        return self._slots.get(worker)

    def add(self, slot: Slot) -> None:
        self._slots[slot.worker] = slot

    def remove(self, slot: Slot) -> None:
        del self._slots[slot.worker]

    def of(self, *states: State) -> list[Slot]:
        return [slot for slot in self._slots.values() if slot.state in states]

    def live(self) -> int:
        """Workers that take up a slot."""
        return len(self._slots) - len(self.of(State.STUCK))

    def starting(self) -> Counter[Key]:
        """Workers that start and will be spares, by key."""
        return Counter(slot.key for slot in self.of(State.STARTING) if slot.reserved is None)

    def spare(self, key: Key) -> Slot | None:
        return next((slot for slot in self.of(State.SPARE) if slot.key == key), None)

    def spares(self, needed: Mapping[Key, int]) -> dict[Key, list[Slot]]:
        """Of each key as many spares as are needed, as far as there are."""
        found: dict[Key, list[Slot]] = {}
        for slot in self.of(State.SPARE):
            if len(found.get(slot.key, ())) < needed.get(slot.key, 0):
                found.setdefault(slot.key, []).append(slot)
        return found

    def overdue(self, limits: Limits, now: float) -> list[tuple[Slot, str]]:
        """The workers without a turn that are to end, each once, and why."""
        found: dict[str, tuple[Slot, str]] = {}
        for slot in self.of(State.STARTING, State.SPARE, *WAITING):
            if slot.outdated:
                found[slot.worker] = slot, "its profile has changed"
        for slot in self.of(*WAITING):
            # The same sum as in wake_at: with the rounding of another a tick would come too soon.
            if now >= slot.idle_since + limits.idle_seconds:
                found[slot.worker] = slot, "its conversation was idle for long"
        parked = sorted(self.of(State.PARKED), key=lambda slot: slot.idle_since)
        parked = [slot for slot in parked if slot.worker not in found]
        for slot in parked[: max(0, len(parked) - limits.max_parked)]:
            found[slot.worker] = slot, "too many are parked"
        return list(found.values())

    def outdate(self, profiles: Collection[str]) -> None:
        """These profiles have been changed: what was started with them is of old."""
        for slot in self._slots.values():
            slot.outdated = slot.outdated or slot.key.profile in profiles

    def reserved(self, request: str) -> Slot | None:
        """The worker that was started for this request."""
        return next((slot for slot in self if slot.reserved == request), None)

    def least_used_spare(self, last_used: Mapping[Key, float]) -> Slot | None:
        """The spare whose key was used longest ago."""
        spares = self.of(State.SPARE)
        return min(spares, key=lambda slot: last_used.get(slot.key, 0.0), default=None)

    def dispensable(self, last_used: Mapping[Key, float]) -> Slot | None:
        """The worker that is missed least, where no spare is of use to anybody who waits."""
        return self.least_used_spare(last_used) or self.longest_idle()

    def exact_holder(self, head: bytes) -> Slot | None:
        """A worker that waits at exactly `head`."""
        return next((slot for slot in self.of(*WAITING) if slot.head == head), None)

    def holder(self, head: bytes) -> Slot | None:
        """A worker that waits at `head`, exactly if there is one. Two may: equal conversations."""
        lenient = (slot for slot in self.of(*WAITING) if slot.lenient == head)
        return self.exact_holder(head) or next(lenient, None)

    def longest_idle(self) -> Slot | None:
        return min(self.of(*WAITING), key=lambda slot: slot.idle_since, default=None)

    def idle_with_root(self, root: bytes) -> list[Slot]:
        """Idle workers that may be reset for another conversation, the longest idle first."""
        idle = [slot for slot in self.of(State.IDLE) if slot.root == root]
        return sorted(idle, key=lambda slot: slot.idle_since)
