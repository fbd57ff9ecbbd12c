"""Incidents in the log: each kind once, and again with a count."""

import math

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from maxd.http.episodes import QUIET_SECONDS, Episodes, Told
from maxd.http.http1 import Incident


class IncidentLog:
    """`report` is told each incident; `run` tells the log of those that came again and again."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._episodes = Episodes()
        self._begun = trio.Event()

    def report(self, incident: Incident) -> None:
        """Count it, and log what is to be told of it. Never raises."""
        told = self._episodes.note(incident, trio.current_time())
        self._begun.set()
        if told is not None:
            self._tell("incident" if told.count == 1 else "incident goes on", told)

    async def run(self) -> None:
        """Log the episodes that are over, until cancelled."""
        try:
            while True:
                await self._begun.wait()
                while self._episodes:
                    await trio.sleep(QUIET_SECONDS)
                    self._tell_ended(trio.current_time())
                self._begun = trio.Event()
        finally:
            self._tell_ended(math.inf)

    def _tell_ended(self, now: float) -> None:
        for told in self._episodes.end(now):
            self._tell("incident over", told)

    def _tell(self, event: str, told: Told) -> None:
        more = {} if told.count == 1 else {"count": told.count, "seconds": round(told.seconds, 1)}
        self._log.warning(event, **msgspec.structs.asdict(told.incident), **more)
