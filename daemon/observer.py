"""What the daemon tells of its life to those that count and show it."""

from msgspec import Struct

from maxd.daemon.slots import Key
from maxd.daemon.turn_facts import TurnFacts
from maxd.workers.faults import Fault


class Replied(Struct, frozen=True, kw_only=True):
    """An HTTP request that has been answered. `route` is one of the known ones or `other`,
    `status` None when the client went away before there was one. `seconds` is until the end of
    the reply. `turn`: a turn was run for it, and is told by itself."""

    request: str
    method: str
    route: str
    status: int | None
    code: str | None
    seconds: float
    turn: bool


class Observer:
    """Told what happens; each method does nothing here. None may raise or block: they are called
    in the middle of what they tell."""

    def worker_started(self, worker: str, key: Key) -> None:
        """A worker's process is being started."""

    def worker_ready(self, worker: str, pid: int | None, seconds: float) -> None:
        """It has answered, so long after its start."""

    def worker_gone(
        self, worker: str, reason: str | None, fault: Fault | None, *, stuck: bool
    ) -> None:
        """It has ended: killed for `reason`, or by itself with `fault`. `stuck`: its process tree
        could not be killed."""

    def turn_ended(self, facts: TurnFacts) -> None:
        """A turn has ended, however."""

    def replied(self, reply: Replied) -> None:
        """An HTTP request is over."""

    def cli_changed(self, fault: Fault | None) -> None:
        """The CLI can be used (None), or why it cannot."""


class Observers(Observer):
    """Tells each of several."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def worker_started(self, worker: str, key: Key) -> None:
        for observer in self._observers:
            observer.worker_started(worker, key)

    def worker_ready(self, worker: str, pid: int | None, seconds: float) -> None:
        for observer in self._observers:
            observer.worker_ready(worker, pid, seconds)

    def worker_gone(
        self, worker: str, reason: str | None, fault: Fault | None, *, stuck: bool
    ) -> None:
        for observer in self._observers:
            observer.worker_gone(worker, reason, fault, stuck=stuck)

    def turn_ended(self, facts: TurnFacts) -> None:
        for observer in self._observers:
            observer.turn_ended(facts)

    def replied(self, reply: Replied) -> None:
        for observer in self._observers:
            observer.replied(reply)

    def cli_changed(self, fault: Fault | None) -> None:
        for observer in self._observers:
            observer.cli_changed(fault)
