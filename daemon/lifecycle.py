"""The end of the daemon: from the first signal to the last byte."""

import signal
from collections.abc import AsyncIterator, Callable

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.pool import Pool
from maxd.daemon.turns import Turns
from maxd.workers.faults import Overloaded

# Clients whose streams did not finish are told so this long before the end of the drain.
FAREWELL_SECONDS = 1.0


class Stopped(Exception):
    """The second signal: end at once."""


async def drain_on_signal(
    pool: Pool,
    turns: Turns,
    *,
    drain_seconds: float,
    stop_serving: Callable[[], None],
    log: FilteringBoundLogger,
    on_stopping: Callable[[], None] = lambda: None,
    settle_seconds: float = 0.0,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Wait for SIGTERM or SIGINT, then drain: refuse new requests, let running turns finish for
    `drain_seconds`, tell the rest, and call `stop_serving`. Does not return: it listens for the
    second signal until it is cancelled.

    `on_stopping` is called first, and what arrives in the `settle_seconds` after it is still
    served: the requests on connections that were accepted before it stopped the accepting.

    Raises Stopped at a second signal, whatever is still running.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        first = await anext(signals)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_at_once, signals)
            log.info("stopping", signal=signal.Signals(first).name, running=turns.running)
            on_stopping()
            await trio.sleep(settle_seconds)
            fault = Overloaded("maxd is stopping; try again when it is back")
            # Not yet the pool: it would refuse the turns that wait for a worker too.
            turns.refusal = fault
            with trio.move_on_after(max(0.0, drain_seconds - FAREWELL_SECONDS)):
                await turns.wait_idle()
            if turns.running:
                log.warning("turns cut short", running=turns.running)
                turns.stop(fault)
            with trio.move_on_after(FAREWELL_SECONDS):
                await turns.wait_idle()
            pool.close(fault, for_good=True)
            stop_serving()


async def _stop_at_once(signals: AsyncIterator[int]) -> None:
    raise Stopped(signal.Signals(await anext(signals)).name)
