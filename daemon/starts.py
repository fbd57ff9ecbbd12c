"""How many workers may be started now, after what has become of the last ones."""

from maxd.daemon.backoff import Backoff
from maxd.workers.faults import Fault, WorkerStartFailed


class Starts:
    """Allows starts, `most` at once; after a failure one at a time, and not too soon.

    `fault` is why the last start failed, None after one that worked. Times are seconds of one
    monotonic clock.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._backoff = Backoff()
        self.fault: Fault | None = None

    @property
    def degraded(self) -> bool:
        """So many starts have failed that nobody is promised one any more."""
        return self._backoff.degraded

    def failed(self, fault: Fault, now: float) -> None:
        self._backoff.failed(now)
        # A spare's WorkerDied would tell a request that is refused that it had a worker.
        wait = max(1.0, self._backoff.not_before() - now)
        self.fault = WorkerStartFailed(fault.message, retry_after=wait)

    def succeeded(self, now: float) -> None:
        self._backoff.succeeded(now)
        self.fault = None

    def forgive(self) -> None:
        """What failed before is no reason to wait any more: the CLI or its login has changed."""
        self._backoff = Backoff()
        self.fault = None

    def not_before(self) -> float:
        """The time from which a start is allowed."""
        return self._backoff.not_before()

    def allowed(self, now: float, under_way: int) -> int:
        """How many may be started now beside those `under_way`; negative for too many already."""
        if now < self._backoff.not_before():
            return 0
        # After a failure one start is the question whether it works again.
        return (1 if self.fault is not None else self._most) - under_way
