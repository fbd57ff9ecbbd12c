"""The parts of the daemon and how they hang together: each is made with those above it."""

from collections.abc import Callable, Mapping, Sequence

from structlog.typing import FilteringBoundLogger

from maxd.daemon.abilities import abilities
from maxd.daemon.account import Account
from maxd.daemon.account_gate import AccountGate
from maxd.daemon.applying import Applying, make_directories
from maxd.daemon.backend import Backend
from maxd.daemon.catalog import Catalog
from maxd.daemon.channels import Channel
from maxd.daemon.chronicle import Chronicle
from maxd.daemon.conversations import Conversations
from maxd.daemon.feature_verdicts import FeatureVerdicts
from maxd.daemon.first_contact import FirstContact
from maxd.daemon.in_force import InForce
from maxd.daemon.index import NAME as INDEX_NAME
from maxd.daemon.index_writer import IndexWriter
from maxd.daemon.limits import limits
from maxd.daemon.manager import Health
from maxd.daemon.memory import available_memory
from maxd.daemon.metrics import Metrics
from maxd.daemon.notify import Notifier
from maxd.daemon.observer import Observer, Observers
from maxd.daemon.overview import Overview
from maxd.daemon.pool import Pool
from maxd.daemon.probes import Probes
from maxd.daemon.reactions import BackendReactions, TurnReactions, WorkerReactions
from maxd.daemon.reloading import Reloading
from maxd.daemon.reply_store import NAME as REPLIES_NAME
from maxd.daemon.reply_store import Keep
from maxd.daemon.sd_notify import Announcer
from maxd.daemon.settings import Config
from maxd.daemon.status_parts import limits_of, notifications_of, reload_of, unsaved_of
from maxd.daemon.stored_replies import StoredReplies
from maxd.daemon.transcripts import Transcripts
from maxd.daemon.turns import Turns
from maxd.daemon.worker_launcher import WorkerLauncher
from maxd.daemon.worker_usage import WorkerUsage
from maxd.workers.policy import Decisions


class Parts:
    """Everything a daemon consists of. Making it makes the working directories and starts nothing.

    The arguments are those of `service.run`. Raises OSError.
    """

    def __init__(
        self,
        config: Config,
        environment: Mapping[str, str],
        instance: str,
        log: FilteringBoundLogger,
        *,
        announcer: Announcer,
        load: Callable[[], Config] | None,
        observers: Sequence[Observer],
        on_config: Callable[[Config], None],
        channels: Sequence[Channel],
    ) -> None:
        self._log = log
        self._environment = environment
        self._memory = available_memory()
        profiles = config.make_profiles()
        make_directories(profiles)
        self.in_force = InForce(config, profiles)
        self.catalog = Catalog(config.models, profiles)

        self.notifier = Notifier(
            channels, log, interval_seconds=config.notify.interval_minutes * 60
        )
        self.chronicle, self.metrics = Chronicle(), Metrics()
        self.observer = Observers(self.chronicle, self.metrics, *observers)
        self.usage = WorkerUsage()
        self.decisions = Decisions()
        self.account = Account()

        self.index = _index(config, log)
        self.replies = _replies(config, log)
        self.conversations = Conversations(
            self.index.save_nowait, self.index.delete_nowait, keep=config.conversations.keep_count
        )

        self.probes = Probes(config.state_directory(), environment, log)
        self.features = FeatureVerdicts(config.state_directory(), environment, log)
        self.backend = Backend(config.cli.path, environment, log)
        self.worker_reactions = WorkerReactions(
            self.in_force,
            self.catalog,
            self.backend,
            probes=self.probes,
            features=self.features,
            usage=self.usage,
            notifier=self.notifier,
        )
        self.pool = self._pool(instance)
        # The one circle: workers are started with the CLI that the backend has found, and the
        # backend opens and closes the pool. So it is told whom to tell when it is run.
        self.backend_reactions = BackendReactions(
            self.pool, self.account, observer=self.observer, notifier=self.notifier, log=log
        )
        self.transcripts = Transcripts(
            self.in_force.directories, lambda: self.backend.projects, self.index.save_nowait, log
        )
        self.turn_reactions = TurnReactions(self.backend, self.notifier)
        self.turns = self._turns()

        applying = Applying(
            self.in_force,
            self.catalog,
            self.backend,
            self.pool,
            memory=self._memory,
            environment=environment,
            on_config=on_config,
        )
        # Without a file to read again, as in a demo, what is in force stays.
        load = load or (lambda: self.in_force.config)
        self.reloading = Reloading(config, load, applying.apply, log, announcer)
        self.overview = self._overview()
        self.health = self._health()

    def _pool(self, instance: str) -> Pool:
        config = self.in_force.config
        return Pool(
            limits(config, self.catalog, self._memory),
            WorkerLauncher(
                self.in_force,
                self.catalog,
                self.backend,
                self.decisions,
                environment=self._environment,
                instance=instance,
            ),
            self._log,
            freeze_idle=config.pool.freeze_idle,
            reuse_bytes=config.pool.reuse_megabytes * 2**20,
            on_ready=self.worker_reactions.ready,
            on_start_failed=self.worker_reactions.start_failed,
            observer=self.observer,
        )

    def _turns(self) -> Turns:
        return Turns(
            self.pool,
            self.in_force.profiles,
            self.conversations,
            self._log,
            on_fault=self.turn_reactions.failed,
            able=lambda: abilities(self.features.findings),
            allows_reset=self._allows_reset,
            transcripts=self.transcripts,
            gate=AccountGate(
                self.account,
                FirstContact(lambda: self.backend.login),
                self._log,
                on_closed=self.turn_reactions.account_closed,
                on_opened=self.turn_reactions.account_opened,
            ),
            observer=self.observer,
            decisions=self.decisions,
        )

    def _allows_reset(self, version: str | None) -> bool:
        return self.in_force.config.pool.reuse and self.probes.allows_reset_of(version)

    def _overview(self) -> Overview:
        return Overview(
            config=lambda: self.in_force.config,
            pool=self.pool,
            turns=self.turns,
            backend=self.backend,
            probes=self.probes,
            features=self.features,
            chronicle=self.chronicle,
            metrics=self.metrics,
            observer=self.observer,
            usage=self.usage,
            limits=lambda: limits_of(self.account.view()),
            notifications=lambda: notifications_of(self.notifier.state()),
            unsaved=lambda: unsaved_of(conversations=self.index, replies=self.replies),
            reloaded=lambda: reload_of(self.reloading),
        )

    def _health(self) -> Health:
        pool = self.in_force.config.pool
        return Health(
            self.pool.counts,
            lambda: self.pool.queued,
            lambda: self.turns.running,
            lambda: None if self.pool.fault is None else self.pool.fault.message,
            lambda: self.reloading.line,
            keeps_spares=bool(pool.spares and pool.warm),
        )


def _index(config: Config, log: FilteringBoundLogger) -> IndexWriter:
    return IndexWriter(
        config.state_directory() / INDEX_NAME,
        log,
        keep_days=config.conversations.keep_days,
        keep_count=config.conversations.keep_count,
    )


def _replies(config: Config, log: FilteringBoundLogger) -> StoredReplies | None:
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
