"""What goes wrong again and again is told once, with a count: pure. Times are seconds of one
monotonic clock.

With no file left to open, each listening socket fails ten times a second; with hostile clients
there is no bound at all. The first of a kind is told at once, and an episode of it lasts until none
has come for a while.
"""

from typing import Final

from msgspec import Struct

from maxd.http.http1 import Incident

QUIET_SECONDS: Final = 10.0
"""An episode is over when nothing of its kind has happened for so long."""

AGAIN_SECONDS: Final = 60.0
"""How long one that goes on is not told of."""


class Told(Struct, frozen=True):
    """To be told now: `count` of the same kind so far, in `seconds`."""

    incident: Incident
    count: int
    seconds: float
    over: bool = False


class _Episode(Struct):
    began: float
    last: float
    told_at: float
    told: int = 1
    count: int = 1


class Episodes:
    """Those that have begun and are not over, by kind. There are as many kinds as places in the
    code and types of errors, so their number is bounded."""

    def __init__(self) -> None:
        self._open: dict[Incident, _Episode] = {}

    def __len__(self) -> int:
        return len(self._open)

    def note(self, incident: Incident, now: float) -> Told | None:
        """One more has happened. Returns what is to be told of it, if it is."""
        episode = self._open.get(incident)
        if episode is None:
            self._open[incident] = _Episode(now, now, now)
            return Told(incident, 1, 0.0)
        episode.count += 1
        episode.last = now
        if now - episode.told_at < AGAIN_SECONDS:
            return None
        episode.told_at, episode.told = now, episode.count
        return Told(incident, episode.count, now - episode.began)

    def end(self, now: float) -> list[Told]:
        """End the episodes that are over. Returns what is to be told of them: of those that were
        told in full, nothing."""
        ended = [each for each, episode in self._open.items() if _is_over(episode, now)]
        told = []
        for incident in ended:
            episode = self._open.pop(incident)
            if episode.count > episode.told:
                seconds = episode.last - episode.began
                told.append(Told(incident, episode.count, seconds, over=True))
        return told


def _is_over(episode: _Episode, now: float) -> bool:
    return now - episode.last >= QUIET_SECONDS
