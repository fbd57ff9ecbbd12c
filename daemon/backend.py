"""Is there a CLI that can answer? Looked at when the daemon starts and whenever there is doubt."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import trio
from structlog.typing import FilteringBoundLogger

from maxd.workers.cli import Login, find_cli, login_state
from maxd.workers.faults import BackendUnavailable
from maxd.workers.sessions import projects_directory
from maxd.workers.verdict import NOT_LOGGED_IN

if TYPE_CHECKING:
    from pathlib import Path

# How soon after a look that found nothing the next is taken. One look costs 0.3 s of CPU.
AGAIN_SECONDS = 30.0
# Doubts come with every failing request; between two looks there is at least this.
PAUSE_SECONDS = 5.0


class Backend:
    """The CLI and its login. `on_change` is told the fault, or None when it can answer."""

    def __init__(
        self,
        configured: str,
        environment: Mapping[str, str],
        log: FilteringBoundLogger,
        on_change: Callable[[BackendUnavailable | None], None],
    ) -> None:
        self._configured = configured
        self._environment = environment
        self._log = log
        self._on_change = on_change
        self._doubted = trio.Event()
        self.cli: Path | None = None
        # Where the CLI keeps its transcripts.
        self.projects: Path | None = None
        # What the CLI has last said of its login.
        self.login: Login | None = None
        # What `on_change` was told last; not a fault before the first look.
        self._fault: BackendUnavailable | None = None

    @property
    def fault(self) -> BackendUnavailable | None:
        """Why the CLI cannot be used; None when it can, and before the first look."""
        return self._fault

    def doubt(self) -> None:
        """Something has failed that may be the CLI's or the login's fault: look again soon."""
        self._doubted.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look, tell, and wait for a reason to look again, until cancelled. Reports started after
        the first look."""
        self._tell(await self._look())
        task_status.started()
        while True:
            await trio.sleep(PAUSE_SECONDS)
            with trio.move_on_after(AGAIN_SECONDS) as patience:
                if self._fault is None:
                    patience.deadline = float("inf")
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
        login = self.login = await login_state(self.cli, self._environment)
        self.projects = projects_directory(login, self._environment)
        if login.state == "logged_out":
            return BackendUnavailable(NOT_LOGGED_IN)
        return None
