"""What the scheduler keeps in mind: keys, limits, who waits, and one slot for each worker."""

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
    refill_seconds: float = 0.5
    """How long a refill waits for the service to answer the turn that took the spare: a start
    beside it costs that turn up to half of its first token's time on two processors."""


@dataclass(eq=False)
class Waiter:
    request: str
    key: Key
    client: str
    since: float


@dataclass(eq=False)
class Slot:
    """One worker as the scheduler sees it."""

    worker: str
    key: Key
    state: State
    request: str | None = None
    head: bytes | None = None
    """Of an idle worker: what its conversation is known by (see lineage)."""
    idle_since: float = 0.0
