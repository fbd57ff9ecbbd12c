"""The daemon as it runs: its parts are started, and ended by a signal. What serves it over HTTP is
injected."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.catalog import Catalog
from maxd.daemon.channels import Channel
from maxd.daemon.lifecycle import drain_on_signal
from maxd.daemon.manager import keep_told
from maxd.daemon.memory import PER_WORKER, memory_is_below
from maxd.daemon.observer import Observer
from maxd.daemon.overview import Overview
from maxd.daemon.parts import Parts
from maxd.daemon.pool import Pool
from maxd.daemon.sd_notify import Announcer
from maxd.daemon.settings import Config
from maxd.daemon.stored_replies import StoredReplies
from maxd.daemon.turns import Turns

# Two workers' worth: less than this available, and the next start may bring in the OOM killer.
RESERVED_BYTES = 2 * PER_WORKER
RELIEF_SECONDS = 5.0


class Front(Protocol):
    """Serves turns until `shutdown` is set and its replies have ended. `draining` is set before:
    what another process can accept in its place is to be left to that."""

    def __call__(
        self,
        turns: Turns,
        catalog: Catalog,
        draining: trio.Event,
        shutdown: trio.Event,
        /,
        *,
        overview: Overview,
        replies: StoredReplies | None,
        task_status: trio.TaskStatus[None],
    ) -> Awaitable[None]: ...


async def run(
    config: Config,
    environment: Mapping[str, str],
    instance: str,
    log: FilteringBoundLogger,
    front: Front,
    *,
    announcer: Announcer | None = None,
    settle_seconds: float = 0.0,
    load: Callable[[], Config] | None = None,
    observers: Sequence[Observer] = (),
    on_config: Callable[[Config], None] = lambda config: None,
    channels: Sequence[Channel] = (),
    on_serving: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run the daemon until it is told to stop by a signal.

    `environment` is what workers inherit; `instance` marks their process trees. Through `channels`
    the user is told what needs them. `on_serving` is run once requests are answered; `announcer` is
    what the service manager hears. The `settle_seconds` are drain_on_signal's. `load` reads the
    configuration again when SIGHUP asks for it, and `on_config` is told the one that is in force
    then. `observers` are told what happens.

    Raises lifecycle.Stopped at a second signal. Cancelling ends everything at once; the workers'
    trees are gone when this returns.
    """
    tell = announcer or Announcer({})
    parts = Parts(
        config,
        environment,
        instance,
        log,
        announcer=tell,
        load=load,
        observers=observers,
        on_config=on_config,
        channels=channels,
    )
    draining, shutdown = trio.Event(), trio.Event()

    def stopping() -> None:
        draining.set()
        tell.stopping(f"stopping, {parts.turns.running} turns running")

    drain = partial(
        drain_on_signal,
        parts.pool,
        parts.turns,
        drain_seconds=config.server.drain_seconds,
        stop_serving=shutdown.set,
        log=log,
        on_stopping=stopping,
        settle_seconds=settle_seconds,
    )
    serve = partial(front, overview=parts.overview, replies=parts.replies)
    async with trio.open_nursery() as everything:
        await everything.start(drain)
        await _start(parts, everything)
        async with trio.open_nursery() as serving:
            await serving.start(serve, parts.turns, parts.catalog, draining, shutdown)
            everything.start_soon(keep_told, tell, parts.health)
            _begin_looking(parts, everything)
            if on_serving is not None:
                serving.start_soon(on_serving)
        everything.cancel_scope.cancel()


async def _start(parts: Parts, nursery: trio.Nursery) -> None:
    """Start what has to run before a request can be answered."""
    await nursery.start(parts.reloading.run)
    await nursery.start(parts.notifier.run)
    await nursery.start(parts.backend.run, parts.backend_reactions)
    await nursery.start(parts.pool.run)
    parts.conversations.restore(await nursery.start(parts.index.run))
    nursery.start_soon(parts.transcripts.run)
    if parts.replies is not None:
        await nursery.start(parts.replies.run)
    nursery.start_soon(parts.turns.left.run)


def _begin_looking(parts: Parts, nursery: trio.Nursery) -> None:
    """Start what looks after the daemon while it serves: the first requests do not wait for it."""
    nursery.start_soon(parts.usage.run, parts.pool.pids)
    nursery.start_soon(parts.probes.run)
    nursery.start_soon(parts.features.run)
    nursery.start_soon(_relieve_memory, parts.pool)


async def _relieve_memory(pool: Pool) -> None:
    """End workers that are missed least while memory is short, one at a time."""
    while True:
        await trio.sleep(RELIEF_SECONDS)
        if memory_is_below(RESERVED_BYTES):
            pool.relieve()
