"""Is there a CLI that can answer? Looked at when the daemon starts and whenever there is doubt."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

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


class Backend:
    """The CLI and its login. `on_change` is told the fault, or None when it can answer.

    `on_expiring` is told when the login ends (epoch seconds), once for each such time, when that is
    so near that its owner should log in again; `on_renewed` is called when that is no longer so.
    `on_other_login` is called when the kind of login has changed.
    """

    def __init__(
        self,
        configured: str,
        environment: Mapping[str, str],
        log: FilteringBoundLogger,
        on_change: Callable[[BackendUnavailable | None], None],
        *,
        on_expiring: Callable[[float], None] = lambda expires_at: None,
        on_renewed: Callable[[], None] = lambda: None,
        on_other_login: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_expiring = on_expiring
        self._on_renewed = on_renewed
        self._on_other_login = on_other_login
        # The end of the login that `on_expiring` was told last, until it is renewed.
        self._told_end: float | None = None
        self._configured = configured
        self._environment = environment
        self._log = log
        self._on_change = on_change
        self._doubted = trio.Event()
        self.cli: Path | None = None
        # Where the CLI keeps its transcripts.
        self.projects: Path | None = None
        # What the CLI says of its login; None before the first answer.
        self.login: Login | None = None
        # Whether an API key in the environment is used in place of a login that is there too.
        self.login_outranked = False
        # What `on_change` was told last; not a fault before the first look.
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

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look, tell, and wait for a reason to look again, until cancelled. Reports started after
        the first look."""
        self._tell(await self._look())
        await self._look_behind_key()
        task_status.started()
        while True:
            await trio.sleep(PAUSE_SECONDS)
            patience = AGAIN_SECONDS if self._fault is not None else LOOK_SECONDS
            with trio.move_on_after(patience):
                await self._doubted.wait()
            # A doubt during the look may be news to it, so it counts for the next.
            self._doubted = trio.Event()
            fault = await self._look()
            if (fault and fault.message) != (self._fault and self._fault.message):
                self._tell(fault)

    def _tell(self, fault: BackendUnavailable | None) -> None:
        self._fault = fault
        if fault is None:
            self._log.info("claude CLI can be used", path=str(self.cli))
        else:
            self._log.error("claude CLI cannot be used", reason=fault.message)
        self._on_change(fault)

    async def _look(self) -> BackendUnavailable | None:
        try:
            self.cli = find_cli(self._configured, self._environment)
        except BackendUnavailable as fault:
            return fault
        login = await login_state(self.cli, self._environment)
        self.projects = projects_directory(login, self._environment)
        self._note(login)
        if login.state == "logged_out":
            return BackendUnavailable(NOT_LOGGED_IN)
        return None

    def _note(self, login: Login) -> None:
        before, self.login = self.login, login
        if before is not None and before.method != login.method:
            self._on_other_login()
        if is_expiring(login, time.time()):
            if login.expires_at is not None and login.expires_at != self._told_end:
                self._told_end = login.expires_at
                self._on_expiring(login.expires_at)
        elif self._told_end is not None and login.state == "logged_in":
            self._told_end = None
            self._on_renewed()

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
