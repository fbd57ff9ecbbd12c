"""What may be told of a turn: ids, times, counts and its outcome, and never anything it said."""

from typing import Final

from msgspec import Struct

from maxd.workers.turn import Usage

FINISHED: Final = "finished"
CANCELLED: Final = "cancelled"


class Timings(Struct, frozen=True, kw_only=True):
    """Where the time of a turn has gone, in seconds; None for what has not happened (yet).

    `queue` is the wait for room, `spawn` the wait for a process that was being started meanwhile:
    together they are the wait for a worker. `first_text` and `total` count from the admission.
    """

    queue: float | None = None
    spawn: float | None = None
    first_text: float | None = None
    total: float | None = None


def timings(
    admitted: float,
    leased: float | None,
    start: tuple[float, float] | None,
    first_text: float | None,
    ended: float | None,
) -> Timings:
    """The timings of a turn from its moments on one clock. `start` is from when to when the
    worker it has got was started: only what of that lies within the wait is the turn's."""
    queue = spawn = None
    if leased is not None:
        began, ready = start or (admitted, admitted)
        spawn = max(0.0, min(ready, leased) - max(began, admitted))
        queue = leased - admitted - spawn
    return Timings(
        queue=_rounded(queue),
        spawn=_rounded(spawn),
        first_text=_rounded(None if first_text is None else first_text - admitted),
        total=_rounded(None if ended is None else ended - admitted),
    )


def server_timing(timings: Timings) -> str:
    """The value of a `Server-Timing` header: durations in milliseconds, of what is known."""
    named = {
        "queue": timings.queue,
        "spawn": timings.spawn,
        "first_token": timings.first_text,
        "total": timings.total,
    }
    known = (f"{name};dur={1000 * value:.1f}" for name, value in named.items() if value is not None)
    return ", ".join(known)


class TurnFacts(Struct, frozen=True, kw_only=True):
    """A turn that has ended. `request` is the id in `X-Request-Id`, `key` the name of the API key
    where there is one. `outcome` is `finished`, `cancelled` (the client went away) or the code
    of the fault that ended it, whose message `reason` is. `usage` is there when it finished.
    `tokens` is what it has cost, in and out, however it ended: as far as that was told, and the
    output of a turn that was not finished by an estimate.
    """

    request: str
    dialect: str
    key: str | None
    conversation: str
    profile: str
    model: str
    messages: int
    worker: str | None
    continued: bool
    attempts: int
    timings: Timings
    outcome: str
    reason: str | None = None
    usage: Usage | None = None
    tokens: int = 0
    cost: float = 0.0

    @property
    def failed(self) -> bool:
        return self.outcome not in (FINISHED, CANCELLED)

    def log_fields(self) -> dict[str, str | int | float | None]:
        """The fields of its line in the log. Times in seconds."""
        return {
            "request": self.request,
            "dialect": self.dialect,
            "key": self.key,
            "conversation": self.conversation,
            "profile": self.profile,
            "model": self.model,
            "messages": self.messages,
            "worker": self.worker,
            "continued": self.continued,
            "attempts": self.attempts,
            "queued": self.timings.queue,
            "spawn": self.timings.spawn,
            "first_text": self.timings.first_text,
            "total": self.timings.total,
            "output_tokens": self.usage.output_tokens if self.usage else None,
            "outcome": self.outcome,
        }


class RunningTurn(Struct, frozen=True, kw_only=True):
    """A turn that has a worker and has not ended. Times in seconds."""

    request: str
    conversation: str
    age: float
    quiet: float
    """Since the worker has last told anything of it."""


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
