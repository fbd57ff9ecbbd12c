"""SIGHUP: the configuration is read again, and a bad one changes nothing."""

import os
import signal
import sys
import time
from collections.abc import Callable

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.config import ConfigError
from maxd.daemon.config_changes import changes
from maxd.daemon.sd_notify import Announcer
from maxd.daemon.settings import Config
from maxd.workers.faults import ModelNotFound


class Reloading:
    """The configuration in force, and what came of the last attempt to change it.

    `load` reads what is configured now and raises ConfigError; `apply` is given what is to be in
    force from now on, and raises ConfigError or ModelNotFound before it has changed anything.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        apply: Callable[[Config], None],
        log: FilteringBoundLogger,
        announcer: Announcer,
    ) -> None:
        self.config = config
        self._load = load
        self._apply = apply
        self._log = log
        self._announcer = announcer
        self.problems: tuple[str, ...] = ()
        """Why the last attempt changed nothing; empty if it did not fail."""
        self.needs_restart: tuple[str, ...] = ()
        """Settings that are configured otherwise than they are in force."""
        self.at: float | None = None
        """When it was tried last, in epoch seconds."""

    @property
    def line(self) -> str | None:
        """What the operator has to know of it, in one line; None if there is nothing."""
        if self.problems:
            return f"configuration not reloaded: {self.problems[0]}"
        if self.needs_restart:
            return f"needs a restart: {', '.join(self.needs_restart)}"
        return None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reload at each SIGHUP, until cancelled."""
        at_terminal = _at_terminal()
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                if at_terminal and not _at_terminal():
                    # Nobody has asked for a reload: the terminal is gone.
                    signal.raise_signal(signal.SIGTERM)
                else:
                    self.reload()

    def reload(self) -> None:
        """Read the configuration and take over what can be. Never raises."""
        self._announcer.reloading()
        try:
            found = changes(self.config, self._load())
            self._apply(found.config)
        except (ConfigError, ModelNotFound) as error:
            self.problems = (
                error.problems
                if isinstance(error, ConfigError)
                else (f"pool.warm: {error.message}",)
            )
            self._log.error("configuration not reloaded", problems=list(self.problems))
        else:
            self.config = found.config
            self.problems = ()
            self.needs_restart = found.needs_restart
            self._log.info(
                "configuration reloaded",
                applied=list(found.applied),
                needs_restart=list(found.needs_restart) or None,
            )
            if found.needs_restart:
                self._log.warning("settings need a restart", settings=list(found.needs_restart))
        self.at = time.time()
        self._announcer.ready(self.line or "configuration reloaded")


def _at_terminal() -> bool:
    try:
        return os.isatty(sys.stdin.fileno()) and os.tcgetpgrp(sys.stdin.fileno()) >= 0
    except (OSError, ValueError, AttributeError):  # no stdin, closed, or a terminal that hung up
        return False
