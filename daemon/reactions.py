"""What follows from what happens in a part of the daemon: whom it is told, and what is done."""

import time

from structlog.typing import FilteringBoundLogger

from maxd.daemon import notices
from maxd.daemon.account import Account, Closure, window_name
from maxd.daemon.backend import Backend, iso_time
from maxd.daemon.catalog import Catalog
from maxd.daemon.feature_verdicts import FeatureVerdicts
from maxd.daemon.in_force import InForce
from maxd.daemon.notify import Notifier
from maxd.daemon.observer import Observer
from maxd.daemon.pool import Pool
from maxd.daemon.probes import Probes
from maxd.daemon.worker_usage import WorkerUsage
from maxd.workers.faults import BackendUnavailable, Fault, TurnTimedOut, WorkerStartFailed
from maxd.workers.worker import Readiness


class WorkerReactions:
    """To what becomes of the workers that are started."""

    def __init__(
        self,
        in_force: InForce,
        catalog: Catalog,
        backend: Backend,
        *,
        probes: Probes,
        features: FeatureVerdicts,
        usage: WorkerUsage,
        notifier: Notifier,
    ) -> None:
        self._in_force = in_force
        self._catalog = catalog
        self._backend = backend
        self._probes = probes
        self._features = features
        self._usage = usage
        self._notifier = notifier

    def ready(self, readiness: Readiness) -> None:
        """A worker has answered: starts work again, and its CLI's version is the present one."""
        self._catalog.note(readiness)
        self._notifier.tell(notices.pool_recovered())
        self._usage.look()
        if self._backend.cli is None:
            return
        self._features.note(self._backend.cli, readiness.version)
        if self._in_force.config.pool.reuse:
            self._probes.note(self._backend.cli, readiness.version)

    def start_failed(self, fault: Fault) -> None:
        """The pool refuses requests with `fault`, and a worker is gone."""
        self._backend.doubt()
        # Not one of its kind: why the pool is closed, which is told elsewhere.
        if isinstance(fault, WorkerStartFailed):
            self._notifier.tell(notices.pool_degraded(fault))


class TurnReactions:
    """To what turns have met."""

    def __init__(self, backend: Backend, notifier: Notifier) -> None:
        self._backend = backend
        self._notifier = notifier

    def failed(self, fault: Fault) -> None:
        """A turn was ended by `fault`."""
        if isinstance(fault, BackendUnavailable):
            self._backend.doubt()
        if isinstance(fault, TurnTimedOut):
            self._notifier.tell(notices.turn_timed_out(fault))

    def account_closed(self, closure: Closure) -> None:
        """A usage window is used up."""
        self._notifier.tell(notices.account_limit(window_name(closure), closure.resets_at))

    def account_opened(self, closure: Closure) -> None:
        """A window that was used up has room again."""
        self._notifier.tell(notices.account_open(window_name(closure)))


class BackendReactions:
    """To what becomes of the CLI and its login: the listener of Backend."""

    def __init__(
        self,
        pool: Pool,
        account: Account,
        *,
        observer: Observer,
        notifier: Notifier,
        log: FilteringBoundLogger,
    ) -> None:
        self._pool = pool
        self._account = account
        self._observer = observer
        self._notifier = notifier
        self._log = log

    def changed(self, fault: BackendUnavailable | None) -> None:
        """The CLI can be used (None), or why it cannot."""
        self._observer.cli_changed(fault)
        if fault is None:
            self._pool.open()
            self._notifier.tell(notices.backend_available())
        else:
            self._pool.close(fault)
            self._notifier.tell(notices.backend_unavailable(fault))

    def login_expiring(self, expires_at: float) -> None:
        """The login ends soon, at `expires_at` (epoch seconds)."""
        self._log.warning("login ends soon: log in again", at=iso_time(expires_at))
        self._notifier.tell(notices.login_expires(expires_at - time.time()))

    def login_renewed(self) -> None:
        """It does not end soon any more."""
        self._notifier.tell(notices.login_renewed())

    def login_replaced(self) -> None:
        """Another kind of login is used: what is known of the account is not known of this one."""
        self._account.forget()
