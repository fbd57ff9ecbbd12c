"""The conversation with the service manager: when this is ready, how it goes, that it is alive."""

from collections.abc import Callable, Mapping

import trio

from maxd.daemon.sd_notify import Announcer
from maxd.workers.states import State

READY_SECONDS = 60.0
"""How long the start is called a start while workers get ready (1 s on an idle machine): less than
systemd's own 90 s, so that a slow machine is not restarted for ever."""
REFUSED_SECONDS = 5.0
"""The same when requests are refused, as without a login: a restart mends nothing of that, and the
operator shall read the reason, not a time-out."""
LOOK_SECONDS = 1.0
_NOT_READY = (State.STARTING, State.ENDING, State.GONE, State.STUCK)


class Health:
    """How the service is, for its manager: asked, not told."""

    def __init__(
        self,
        counts: Callable[[], Mapping[State, int]],
        queued: Callable[[], int],
        running: Callable[[], int],
        refusal: Callable[[], str | None],
        remark: Callable[[], str | None] = lambda: None,
        *,
        keeps_spares: bool,
    ) -> None:
        self._counts = counts
        self._queued = queued
        self._running = running
        self._refusal = refusal
        self._remark = remark
        self._keeps_spares = keeps_spares

    @property
    def refusal(self) -> str | None:
        """Why requests are refused; None while they are served."""
        return self._refusal()

    @property
    def ready(self) -> bool:
        """Whether the next request is answered at once."""
        if self._refusal() is not None:
            return False
        counts = self._counts()
        # A first request may have taken the spare already.
        begun = sum(counts.values()) - sum(counts[state] for state in _NOT_READY)
        return begun > 0 or not self._keeps_spares

    @property
    def line(self) -> str:
        """One line for the operator."""
        refusal = self._refusal()
        if refusal is not None:
            return f"degraded: {refusal}"
        counts = self._counts()
        remark = self._remark()
        return (
            f"{counts[State.SPARE]} spares, {counts[State.STARTING]} starting, "
            f"{self._running()} turns running, {self._queued()} queued"
            f"{'; ' + remark if remark else ''}"
        )


async def keep_told(
    announcer: Announcer,
    health: Health,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tell the manager READY, then each change of the status, until cancelled; and all the time
    that the event loop turns. Runs in the nursery that serves, so that a loop which hangs is
    not called alive."""
    task_status.started()
    async with trio.open_nursery() as nursery:
        if announcer.watchdog_seconds is not None:
            nursery.start_soon(_stay_alive, announcer, announcer.watchdog_seconds)
        await _wait_ready(announcer, health)
        told = health.line
        announcer.ready(told)
        while True:
            await trio.sleep(LOOK_SECONDS)
            if health.line != told:
                told = health.line
                announcer.status(told)


async def _wait_ready(announcer: Announcer, health: Health) -> None:
    began = trio.current_time()
    told = ""
    while not health.ready:
        patience = READY_SECONDS if health.refusal is None else REFUSED_SECONDS
        if trio.current_time() - began >= patience:
            return
        if health.line != told:
            told = health.line
            announcer.status(f"starting: {told}")
        await trio.sleep(LOOK_SECONDS / 10)


async def _stay_alive(announcer: Announcer, seconds: float) -> None:
    while True:
        announcer.alive()
        await trio.sleep(seconds)
