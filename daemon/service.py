"""The daemon put together: CLI, pool, turns and their end. What serves it over HTTP is injected."""

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon import notices
from maxd.daemon.abilities import abilities
from maxd.daemon.account import Account, Closure, window_name
from maxd.daemon.account_gate import AccountGate
from maxd.daemon.backend import Backend, iso_time
from maxd.daemon.catalog import Catalog
from maxd.daemon.channels import Channel
from maxd.daemon.chronicle import Chronicle
from maxd.daemon.config import ConfigError
from maxd.daemon.config_changes import profile_changes
from maxd.daemon.conversations import Conversations
from maxd.daemon.feature_verdicts import FeatureVerdicts
from maxd.daemon.first_contact import FirstContact
from maxd.daemon.index import NAME as INDEX_NAME
from maxd.daemon.index_writer import IndexWriter
from maxd.daemon.lifecycle import drain_on_signal
from maxd.daemon.manager import Health, keep_told
from maxd.daemon.memory import PER_WORKER, available_memory, memory_is_below, worker_budget
from maxd.daemon.metrics import Metrics
from maxd.daemon.notify import Notifier
from maxd.daemon.observer import Observer, Observers
from maxd.daemon.overview import Overview
from maxd.daemon.pool import Pool
from maxd.daemon.probes import Probes
from maxd.daemon.reloading import Reloading
from maxd.daemon.reply_store import NAME as REPLIES_NAME
from maxd.daemon.reply_store import Keep
from maxd.daemon.sd_notify import Announcer
from maxd.daemon.settings import Config
from maxd.daemon.slots import Key, Limits
from maxd.daemon.status import ReloadStatus
from maxd.daemon.status_parts import limits_of, notifications_of
from maxd.daemon.stored_replies import StoredReplies
from maxd.daemon.transcripts import Transcripts
from maxd.daemon.turns import Turns
from maxd.workers.cli import find_cli
from maxd.workers.faults import BackendUnavailable, Fault, TurnTimedOut, WorkerStartFailed
from maxd.workers.launch import Launch
from maxd.workers.profiles import Profile
from maxd.workers.tree import make_environment
from maxd.workers.worker import Readiness

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
    catalog = Catalog(config.models, config.make_profiles())
    make_directories(catalog.profiles)
    # With those that a reload has removed: what has come before may still be about them.
    profiles = dict(catalog.profiles)
    directories = {name: profile.directory for name, profile in profiles.items()}
    draining, shutdown = trio.Event(), trio.Event()
    tell = announcer or Announcer({})

    def launch(worker: str, key: Key, session: str | None) -> Launch:
        marker = f"{instance}/{worker}"
        return Launch(
            id=worker,
            cli=os.fspath(backend.cli or "claude"),
            profile=profiles[key.profile],
            model=key.model,
            directory=profiles[key.profile].directory,
            environment=make_environment(environment, marker),
            marker=marker,
            start_seconds=config.pool.start_timeout_seconds,
            ask_models=catalog.wants_models,
            resume=session,
            decisions=turns.decisions,
        )

    def start_failed(fault: Fault) -> None:
        backend.doubt()
        # Not one of its kind: why the pool is closed, which is told elsewhere.
        if isinstance(fault, WorkerStartFailed):
            notifier.tell(notices.pool_degraded(fault))

    def turn_failed(fault: Fault) -> None:
        if isinstance(fault, BackendUnavailable):
            backend.doubt()
        if isinstance(fault, TurnTimedOut):
            notifier.tell(notices.turn_timed_out(fault))

    def backend_changed(fault: BackendUnavailable | None) -> None:
        observer.cli_changed(fault)
        if fault is None:
            pool.open()
            notifier.tell(notices.backend_available())
        else:
            pool.close(fault)
            notifier.tell(notices.backend_unavailable(fault))

    def login_expiring(expires_at: float) -> None:
        log.warning("login ends soon: log in again", at=iso_time(expires_at))
        notifier.tell(notices.login_expires(expires_at - time.time()))

    def login_renewed() -> None:
        notifier.tell(notices.login_renewed())

    def account_closed(closure: Closure) -> None:
        notifier.tell(notices.account_limit(window_name(closure), closure.resets_at))

    def account_opened(closure: Closure) -> None:
        notifier.tell(notices.account_open(window_name(closure)))

    # Looked at once: what the workers have taken by the time of a reload is theirs to have.
    memory = available_memory()

    def apply(changed: Config) -> None:
        nonlocal config
        present = changed.make_profiles()
        allowed = limits(changed, Catalog(changed.models, present), memory)
        try:
            if changed.cli.path != config.cli.path:
                find_cli(changed.cli.path, environment)
            make_directories(present)
        except BackendUnavailable as fault:
            raise ConfigError(fault.message) from None
        except OSError as error:
            raise ConfigError(f"profiles: a directory cannot be made: {error}.") from None
        config = changed
        found = profile_changes(catalog.profiles, present)
        catalog.adapt(config.models, present)
        profiles.update(present)
        directories.update({name: profile.directory for name, profile in present.items()})
        backend.configure(config.cli.path)
        pool.adapt(
            allowed,
            freeze_idle=config.pool.freeze_idle,
            reuse_bytes=config.pool.reuse_megabytes * 2**20,
            changed=found.changed,
            removed=found.removed,
        )
        overview.config = config
        on_config(config)

    def stopping() -> None:
        draining.set()
        tell.stopping(f"stopping, {turns.running} turns running")

    def worker_ready(readiness: Readiness) -> None:
        catalog.note(readiness)
        notifier.tell(notices.pool_recovered())
        overview.look()
        if backend.cli is None:
            return
        features.note(backend.cli, readiness.version)
        if config.pool.reuse:
            probes.note(backend.cli, readiness.version)

    notifier = Notifier(channels, log, interval_seconds=config.notify.interval_minutes * 60)
    chronicle, metrics = Chronicle(), Metrics()
    observer = Observers(chronicle, metrics, *observers)
    pool = Pool(
        limits(config, catalog, memory),
        launch,
        log,
        freeze_idle=config.pool.freeze_idle,
        reuse_bytes=config.pool.reuse_megabytes * 2**20,
        on_ready=worker_ready,
        on_start_failed=start_failed,
        observer=observer,
    )
    index = IndexWriter(
        config.state_directory() / INDEX_NAME,
        log,
        keep_days=config.conversations.keep_days,
        keep_count=config.conversations.keep_count,
    )
    replies = stored_replies(config, log)
    conversations = Conversations(
        index.save_nowait, index.delete_nowait, keep=config.conversations.keep_count
    )
    transcripts = Transcripts(
        directories,
        lambda: backend.projects,
        index.save_nowait,
        log,
    )
    probes = Probes(config.state_directory(), environment, log)
    features = FeatureVerdicts(config.state_directory(), environment, log)
    account = Account()
    turns = Turns(
        pool,
        profiles,
        conversations,
        log,
        on_fault=turn_failed,
        able=lambda: abilities(features.findings),
        allows_reset=lambda version: config.pool.reuse and probes.allows_reset_of(version),
        transcripts=transcripts,
        gate=AccountGate(
            account,
            FirstContact(lambda: backend.login),
            log,
            on_closed=account_closed,
            on_opened=account_opened,
        ),
        observer=observer,
    )
    backend = Backend(
        config.cli.path,
        environment,
        log,
        backend_changed,
        on_expiring=login_expiring,
        on_renewed=login_renewed,
        on_other_login=account.forget,
    )
    overview = Overview(
        config=config,
        pool=pool,
        turns=turns,
        backend=backend,
        probes=probes,
        features=features,
        chronicle=chronicle,
        metrics=metrics,
        observer=observer,
        limits=lambda: limits_of(account.view()),
        notifications=lambda: notifications_of(notifier.state()),
        unsaved=lambda: troubles(conversations=index, replies=replies),
        reloaded=lambda: ReloadStatus(
            at=reloading.at, problems=reloading.problems, needs_restart=reloading.needs_restart
        ),
    )
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
        await everything.start(notifier.run)
        await everything.start(backend.run)
        await everything.start(pool.run)
        conversations.restore(await everything.start(index.run))
        everything.start_soon(transcripts.run)
        if replies is not None:
            await everything.start(replies.run)
        serve = partial(front, overview=overview, replies=replies)
        everything.start_soon(turns.left.run)
        async with trio.open_nursery() as serving:
            await serving.start(serve, turns, catalog, draining, shutdown)
            everything.start_soon(overview.run)
            everything.start_soon(keep_told, tell, health)
            everything.start_soon(probes.run)
            everything.start_soon(features.run)
            everything.start_soon(relieve_memory, pool)
            if on_serving is not None:
                serving.start_soon(on_serving)
        everything.cancel_scope.cancel()


def troubles(**kept: IndexWriter | StoredReplies | None) -> dict[str, str]:
    """Why what is kept in the state directory cannot be saved, where it cannot."""
    return {
        name: keeper.trouble
        for name, keeper in kept.items()
        if keeper is not None and keeper.trouble is not None
    }


def make_directories(profiles: Mapping[str, Profile]) -> None:
    """Make the working directories that are missing. Raises OSError."""
    for profile in profiles.values():
        Path(profile.directory).mkdir(parents=True, exist_ok=True, mode=0o700)


def stored_replies(config: Config, log: FilteringBoundLogger) -> StoredReplies | None:
    """Where replies are stored; None where none are to be."""
    settings = config.responses
    if settings.keep_days == 0:
        return None
    keep = Keep(
        days=settings.keep_days,
        count=settings.keep_count,
        size=settings.keep_megabytes * 2**20,
    )
    return StoredReplies(config.state_directory() / REPLIES_NAME, log, keep)


async def relieve_memory(pool: Pool) -> None:
    """End workers that are missed least while memory is short, one at a time."""
    while True:
        await trio.sleep(RELIEF_SECONDS)
        if memory_is_below(RESERVED_BYTES):
            pool.relieve()


def limits(config: Config, catalog: Catalog, memory: int) -> Limits:
    """What the scheduler may do with `memory` bytes for all workers. Raises ModelNotFound for a
    warm id that means nothing."""
    pool = config.pool
    workers = pool.max_workers or worker_budget(memory, pool.memory_fraction)
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
