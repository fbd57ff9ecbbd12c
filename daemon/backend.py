"""Is there a CLI that can answer? Looked at when the daemon starts and whenever there is doubt."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.renewal import is_expiring
from maxd.workers.cli import Login, find_cli, login_state
from maxd.workers.faults import BackendUnavailable
from maxd.workers.sessions import projects_directory
from maxd.workers.verdict import NOT_LOGGED_IN

if TYPE_CHECKING:
    from pathlib import Path

# How soon after a look that found nothing the next is taken. One look costs 0.3 s of CPU.
AGAIN_SECONDS = 30.0
# How often a login that works is looked at: it may end, or its owner may have changed it.
LOOK_SECONDS = 3600.0
# Doubts come with every failing request; between two looks there is at least this.
PAUSE_SECONDS = 5.0


# What outranks every login of the CLI when it is in the environment.
API_KEY = "ANTHROPIC_API_KEY"


class Listener(Protocol):
    """Who is told what has been found. None of these may raise or block."""

    def changed(self, fault: BackendUnavailable | None, /) -> None:
        """Why the CLI cannot be used, or None when it can: after the first look, and whenever it
        is otherwise than before."""

    def login_expiring(self, expires_at: float, /) -> None:
        """The login ends then (epoch seconds), so soon that its owner should log in again; told
        once for each such time."""

    def login_renewed(self) -> None:
        """That is no longer so."""

    def login_replaced(self) -> None:
        """The kind of login has changed."""


class Backend:
    """The CLI and its login."""

    def __init__(
        self, configured: str, environment: Mapping[str, str], log: FilteringBoundLogger
    ) -> None:
        # The end of the login that was told last, until it is renewed.
        self._told_end: float | None = None
        self._configured = configured
        self._environment = environment
        self._log = log
        self._doubted = trio.Event()
        self.cli: Path | None = None
        # Where the CLI keeps its transcripts.
        self.projects: Path | None = None
        # What the CLI says of its login; None before the first answer.
        self.login: Login | None = None
        # Whether an API key in the environment is used in place of a login that is there too.
        self.login_outranked = False
        # What was told last; not a fault before the first look.
        self._fault: BackendUnavailable | None = None

    @property
    def fault(self) -> BackendUnavailable | None:
        """Why the CLI cannot be used; None when it can, and before the first look."""
        return self._fault

    def configure(self, configured: str) -> None:
        """Use another CLI from now on, once it was looked at."""
        if configured != self._configured:
            self._configured = configured
            self.doubt()

    def doubt(self) -> None:
        """Something has failed that may be the CLI's or the login's fault: look again soon."""
        self._doubted.set()

    async def run(
        self, listener: Listener, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Look, tell `listener`, and wait for a reason to look again, until cancelled. Reports
        started after the first look."""
        self._tell(await self._look(listener), listener)
        await self._look_behind_key()
        task_status.started()
        while True:
            await trio.sleep(PAUSE_SECONDS)
            patience = AGAIN_SECONDS if self._fault is not None else LOOK_SECONDS
            with trio.move_on_after(patience):
                await self._doubted.wait()
            # A doubt during the look may be news to it, so it counts for the next.
            self._doubted = trio.Event()
            fault = await self._look(listener)
            if (fault and fault.message) != (self._fault and self._fault.message):
                self._tell(fault, listener)

    def _tell(self, fault: BackendUnavailable | None, listener: Listener) -> None:
        self._fault = fault
        if fault is None:
            self._log.info("claude CLI can be used", path=str(self.cli))
        else:
            self._log.error("claude CLI cannot be used", reason=fault.message)
        listener.changed(fault)

    async def _look(self, listener: Listener) -> BackendUnavailable | None:
        try:
            self.cli = find_cli(self._configured, self._environment)
        except BackendUnavailable as fault:
            return fault
        login = await login_state(self.cli, self._environment)
        self.projects = projects_directory(login, self._environment)
        self._note(login, listener)
        if login.state == "logged_out":
            return BackendUnavailable(NOT_LOGGED_IN)
        return None

    def _note(self, login: Login, listener: Listener) -> None:
        before, self.login = self.login, login
        if before is not None and before.method != login.method:
            listener.login_replaced()
        if is_expiring(login, time.time()):
            if login.expires_at is not None and login.expires_at != self._told_end:
                self._told_end = login.expires_at
                listener.login_expiring(login.expires_at)
        elif self._told_end is not None and login.state == "logged_in":
            self._told_end = None
            listener.login_renewed()

    async def _look_behind_key(self) -> None:
        """Report an API key that was inherited, perhaps unnoticed, and that the CLI uses in place
        of the login that it has."""
        if self.cli is None or not self._environment.get(API_KEY):
            return
        without = {name: value for name, value in self._environment.items() if name != API_KEY}
        login = await login_state(self.cli, without)
        self.login_outranked = login.state == "logged_in"
        if self.login_outranked:
            self._log.warning(
                f"{API_KEY} is set and outranks the login: requests are made with that key; "
                "unset it to use the login",
                login=login.method,
            )


def iso_time(moment: float) -> str:
    """Epoch seconds as people read them."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
