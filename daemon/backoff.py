"""When a CLI that could not start may be tried again, and when to stop promising anything."""

from collections import deque

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
# OTP's restart intensity: this many failures in this many seconds are no accident.
BUDGET = 5
BUDGET_SECONDS = 30.0


class Backoff:
    """Counts failed starts. Times are seconds of one monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._failures: deque[float] = deque(maxlen=BUDGET)
        self._since_success = 0
        self._delay = 0.0
        self._not_before = 0.0
        # The first success after the last failure; None when there was none.
        self._works_since: float | None = None
        # Invariant: True from the failure that used up the budget to the next success.
        self.degraded = False

    def failed(self, now: float) -> None:
        """A start has failed: the next is allowed after 0.5 s, 1 s, 2 s … 30 s. The delays begin
        anew only when starts have worked for 30 s, so that workers which become ready and then
        die at once are not restarted in a loop."""
        if self._works_since is not None and now - self._works_since > BUDGET_SECONDS:
            self._delay = 0.0
        self._works_since = None
        self._delay = min(self._delay * 2, LONGEST_DELAY) or FIRST_DELAY
        self._not_before = max(self._not_before, now + self._delay)
        self._failures.append(now)
        self._since_success += 1
        # One that hangs until its time is up fails too rarely to use up the budget in time.
        in_a_row = self._since_success >= BUDGET
        at_once = len(self._failures) == BUDGET and now - self._failures[0] <= BUDGET_SECONDS
        if in_a_row or at_once:
            self.degraded = True

    def succeeded(self, now: float) -> None:
        """A start has worked: the next is allowed at once."""
        self.degraded = False
        self._since_success = 0
        self._not_before = now
        if self._works_since is None:
            self._works_since = now

    def not_before(self) -> float:
        """The time from which a start is allowed."""
        return self._not_before
