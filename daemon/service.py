"""The daemon put together: CLI, pool, turns and their end. What serves it over HTTP is injected."""

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.backend import Backend
from maxd.daemon.catalog import Catalog
from maxd.daemon.conversations import Conversations
from maxd.daemon.feature_verdicts import FeatureVerdicts
from maxd.daemon.index import NAME as INDEX_NAME
from maxd.daemon.index_writer import IndexWriter
from maxd.daemon.lifecycle import drain_on_signal
from maxd.daemon.manager import Health, keep_told
from maxd.daemon.memory import PER_WORKER, available_memory, worker_budget
from maxd.daemon.pool import Pool
from maxd.daemon.probes import Probes
from maxd.daemon.reloading import Reloading
from maxd.daemon.sd_notify import Notifier
from maxd.daemon.settings import Config
from maxd.daemon.slots import Key, Limits
from maxd.daemon.transcripts import Transcripts
from maxd.daemon.turns import Turns
from maxd.workers.faults import BackendUnavailable, Fault
from maxd.workers.profiles import BUILT_IN
from maxd.workers.tree import make_environment
from maxd.workers.worker import Launch, Readiness

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
        task_status: trio.TaskStatus[None],
    ) -> Awaitable[None]: ...


async def run(
    config: Config,
    environment: Mapping[str, str],
    instance: str,
    log: FilteringBoundLogger,
    front: Front,
    *,
    notifier: Notifier | None = None,
    settle_seconds: float = 0.0,
    load: Callable[[], Config] | None = None,
    on_config: Callable[[Config], None] = lambda config: None,
    on_serving: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run the daemon until it is told to stop by a signal.

    `environment` is what workers inherit; `instance` marks their process trees. `on_serving` is
    run once requests are answered; `notifier` is what the service manager hears. The
    `settle_seconds` are drain_on_signal's. `load` reads the configuration again when SIGHUP asks
    for it, and `on_config` is told the one that is in force then.

    Raises lifecycle.Stopped at a second signal. Cancelling ends everything at once; the workers'
    trees are gone when this returns.
    """
    catalog = Catalog(config.models)
    directory = config.working_directory()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    draining, shutdown = trio.Event(), trio.Event()
    tell = notifier or Notifier({})

    def launch(worker: str, key: Key, session: str | None) -> Launch:
        marker = f"{instance}/{worker}"
        return Launch(
            id=worker,
            cli=os.fspath(backend.cli or "claude"),
            profile=BUILT_IN[key.profile],
            model=key.model,
            directory=os.fspath(directory),
            environment=make_environment(environment, marker),
            marker=marker,
            start_seconds=config.pool.start_timeout_seconds,
            ask_models=catalog.wants_models,
            resume=session,
        )

    def start_failed(fault: Fault) -> None:
        backend.doubt()

    def turn_failed(fault: Fault) -> None:
        if isinstance(fault, BackendUnavailable):
            backend.doubt()

    def backend_changed(fault: BackendUnavailable | None) -> None:
        if fault is None:
            pool.open()
        else:
            pool.close(fault)

    def apply(changed: Config) -> None:
        nonlocal config
        allowed = limits(changed, catalog)
        config = changed
        pool.adapt(
            allowed,
            freeze_idle=config.pool.freeze_idle,
            reuse_bytes=config.pool.reuse_megabytes * 2**20,
        )
        on_config(config)

    def stopping() -> None:
        draining.set()
        tell.stopping(f"stopping, {turns.running} turns running")

    def worker_ready(readiness: Readiness) -> None:
        catalog.note(readiness)
        if backend.cli is None:
            return
        features.note(backend.cli, readiness.version)
        if config.pool.reuse:
            probes.note(backend.cli, readiness.version)

    pool = Pool(
        limits(config, catalog),
        launch,
        log,
        freeze_idle=config.pool.freeze_idle,
        reuse_bytes=config.pool.reuse_megabytes * 2**20,
        on_ready=worker_ready,
        on_start_failed=start_failed,
    )
    index = IndexWriter(
        config.state_directory() / INDEX_NAME,
        log,
        keep_days=config.conversations.keep_days,
        keep_count=config.conversations.keep_count,
    )
    conversations = Conversations(
        index.save_nowait, index.delete_nowait, keep=config.conversations.keep_count
    )
    transcripts = Transcripts(
        os.fspath(directory), lambda: backend.projects, index.save_nowait, log
    )
    probes = Probes(config.state_directory(), environment, log)
    features = FeatureVerdicts(config.state_directory(), environment, log)
    turns = Turns(
        pool,
        BUILT_IN,
        conversations,
        log,
        on_fault=turn_failed,
        allows_reset=lambda: config.pool.reuse and probes.allows_reset,
        lenient=config.profiles.lenient,
        transcripts=transcripts,
    )
    backend = Backend(config.cli.path, environment, log, backend_changed)
    # Without a file to read again, as in a demo, what is in force stays.
    reloading = Reloading(config, load or (lambda: config), apply, log, tell)
    health = Health(
        pool.counts,
        lambda: pool.queued,
        lambda: turns.running,
        lambda: None if pool.fault is None else pool.fault.message,
        lambda: reloading.line,
        keeps_spares=bool(config.pool.spares and config.pool.warm),
    )
    async with trio.open_nursery() as everything:
        drain = partial(
            drain_on_signal,
            pool,
            turns,
            drain_seconds=config.server.drain_seconds,
            stop_serving=shutdown.set,
            log=log,
            on_stopping=stopping,
            settle_seconds=settle_seconds,
        )
        await everything.start(drain)
        await everything.start(reloading.run)
        await everything.start(backend.run)
        await everything.start(pool.run)
        conversations.restore(await everything.start(index.run))
        everything.start_soon(transcripts.run)
        async with trio.open_nursery() as serving:
            await serving.start(front, turns, catalog, draining, shutdown)
            everything.start_soon(keep_told, tell, health)
            everything.start_soon(probes.run)
            everything.start_soon(features.run)
            everything.start_soon(relieve_memory, pool)
            if on_serving is not None:
                serving.start_soon(on_serving)
        everything.cancel_scope.cancel()


async def relieve_memory(pool: Pool) -> None:
    """End workers that are missed least while memory is short, one at a time."""
    while True:
        await trio.sleep(RELIEF_SECONDS)
        if available_memory() < RESERVED_BYTES:
            pool.relieve()


def limits(config: Config, catalog: Catalog) -> Limits:
    """What the scheduler may do. Raises ModelNotFound for a warm id that means nothing."""
    pool = config.pool
    workers = pool.max_workers or worker_budget(available_memory(), pool.memory_fraction)
    return Limits(
        max_workers=workers,
        # Starting takes 0.6 s of CPU; more at once than processors only slow down each other.
        max_starting=max(2, os.cpu_count() or 1),
        spares=pool.spares,
        warm=tuple(Key(*catalog.find(model_id)) for model_id in pool.warm),
        warm_seconds=pool.warm_minutes * 60,
        queue_length=pool.queue_length,
        queue_seconds=pool.queue_seconds,
        reuse_turns=pool.reuse_turns,
        max_parked=pool.max_parked or max(1, workers // 2),
        idle_seconds=config.conversations.idle_minutes * 60,
    )
