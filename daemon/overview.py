"""Looks at all parts of the running daemon and makes the operator's picture of them."""

import os
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

import trio

from maxd.daemon import metrics
from maxd.daemon.status import (
    CliStatus,
    LimitStatus,
    MostEver,
    NotificationStatus,
    ReloadStatus,
    Status,
    daemon_state,
    pool_status,
    shown_settings,
    worker_statuses,
)
from maxd.daemon.status_parts import probes_of

if TYPE_CHECKING:
    from maxd.daemon.backend import Backend
    from maxd.daemon.chronicle import Chronicle
    from maxd.daemon.feature_verdicts import FeatureVerdicts
    from maxd.daemon.observer import Observer
    from maxd.daemon.pool import Pool
    from maxd.daemon.probes import Probes
    from maxd.daemon.settings import Config
    from maxd.daemon.turns import Turns
    from maxd.daemon.worker_usage import WorkerUsage
    from maxd.workers.faults import Fault


class Overview:
    """The live parts of a daemon, to be looked at. `config` tells the configuration in force,
    `limits` what is known of the account's windows, `notifications` of the operator's channels;
    None where there is no such part.

    Looking costs no more than walking through the workers: it waits for nothing and no process.
    """

    def __init__(
        self,
        *,
        config: "Callable[[], Config]",
        pool: "Pool",
        turns: "Turns",
        backend: "Backend",
        probes: "Probes",
        features: "FeatureVerdicts",
        chronicle: "Chronicle",
        metrics: metrics.Metrics,
        observer: "Observer",
        usage: "WorkerUsage",
        limits: Callable[[], tuple[LimitStatus, ...] | None] = lambda: None,
        notifications: Callable[[], NotificationStatus | None] = lambda: None,
        reloaded: Callable[[], ReloadStatus] = ReloadStatus,
        unsaved: Callable[[], dict[str, str]] = dict,
    ) -> None:
        self._config = config
        self._pool = pool
        self._turns = turns
        self._backend = backend
        self._probes = probes
        self._features = features
        self._chronicle = chronicle
        self._metrics = metrics
        self._limits = limits
        self._notifications = notifications
        self._reloaded = reloaded
        self._unsaved = unsaved
        self._usage = usage
        self._version = version("maxd")
        self._started_at = time.time()
        self._started = trio.current_time()
        self.observer = observer
        metrics.watch(self.status)

    @property
    def fault(self) -> "Fault | None":
        """Why turns are refused at the moment; None while they are served."""
        return self._turns.refusal or self._pool.fault

    def status(self) -> Status:
        """Everything, as it is now."""
        self._usage.look()
        now, clock = time.time(), trio.current_time()
        pool, fault, members = self._pool, self.fault, self._pool.members()
        return Status(
            version=self._version,
            pid=os.getpid(),
            state=daemon_state(fault, stopping=pool.stopping or self._turns.refusal is not None),
            problem=None if fault is None else fault.message,
            now=round(now, 3),
            started_at=round(self._started_at, 3),
            uptime=round(clock - self._started, 1),
            cli=self._cli(),
            config=shown_settings(self._config()),
            reload=self._reloaded(),
            limits=self._limits(),
            notifications=self._notifications(),
            pool=pool_status(
                (slot for slot, _ in members),
                limit=pool.limits.max_workers,
                queued=pool.queued,
                queue_limit=pool.limits.queue_length,
                queue_age=pool.queue_age(clock),
                most=MostEver(
                    workers=pool.most_workers,
                    turns=self._turns.most_running,
                    queued=pool.most_queued,
                ),
            ),
            running=self._turns.running,
            conversations=len(self._turns.conversations),
            unsaved=self._unsaved(),
            workers=worker_statuses(
                members,
                self._turns.under_way(clock),
                self._chronicle.members,
                self._usage.used,
                now,
            ),
            decisions=self._turns.decisions.by_tool(),
            totals=self._chronicle.totals(),
            errors=tuple(self._chronicle.errors()),
            events=tuple(self._chronicle.events()),
            history=tuple(self._chronicle.history()),
        )

    def metrics(self) -> bytes:
        """The metrics, of the type `metrics.CONTENT_TYPE`."""
        return self._metrics.render()

    def _cli(self) -> CliStatus:
        backend, probes = self._backend, self._probes
        login = backend.login
        reset = True if probes.allows_reset else None if probes.failure is None else False
        return CliStatus(
            path=None if backend.cli is None else str(backend.cli),
            version=probes.version,
            login=None if login is None else login.state,
            method=None if login is None else login.method,
            expires_at=None if login is None else login.expires_at,
            problem=None if backend.fault is None else backend.fault.message,
            probes=probes_of(self._features.findings, reset=reset, reset_failure=probes.failure),
        )
