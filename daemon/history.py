"""Requests and latency of the last quarter of an hour, for the plots of the dashboard."""

from collections import deque
from statistics import median
from typing import Final

from msgspec import Struct

from maxd.daemon.turn_facts import TurnFacts

STEP: Final = 10.0
"""Seconds that one point of a plot stands for."""

POINTS: Final = 90
# Enough for a median; a flood of requests must not be kept one by one.
_MOST_TIMES: Final = 200


class Point(Struct, frozen=True, kw_only=True):
    """The turns that ended in the `STEP` seconds from `at` (epoch seconds). The times are medians
    in seconds, None where there were none."""

    at: float
    turns: int
    failed: int
    first_text: float | None
    total: float | None


class _Bucket(Struct):
    at: float
    turns: int = 0
    failed: int = 0
    first_text: list[float] = []
    total: list[float] = []

    def point(self) -> Point:
        return Point(
            at=self.at,
            turns=self.turns,
            failed=self.failed,
            first_text=round(median(self.first_text), 3) if self.first_text else None,
            total=round(median(self.total), 3) if self.total else None,
        )


class History:
    """The turns of the last `POINTS` steps. Times are epoch seconds and may jump."""

    def __init__(self) -> None:
        self._buckets: deque[_Bucket] = deque(maxlen=POINTS)

    def add(self, facts: TurnFacts, now: float) -> None:
        at = now - now % STEP
        if not self._buckets or self._buckets[-1].at != at:
            self._buckets.append(_Bucket(at))
        bucket = self._buckets[-1]
        bucket.turns += 1
        bucket.failed += facts.failed
        for times, seconds in (
            (bucket.first_text, facts.timings.first_text),
            (bucket.total, facts.timings.total),
        ):
            if seconds is not None and len(times) < _MOST_TIMES:
                times.append(seconds)

    def points(self, now: float) -> list[Point]:
        """One for each step in which a turn ended, oldest first."""
        earliest = now - POINTS * STEP
        return [bucket.point() for bucket in self._buckets if earliest < bucket.at <= now]
