"""What it takes to start a worker."""

from collections.abc import Mapping

from msgspec import Struct

from maxd.workers.policy import Decisions
from maxd.workers.profiles import Profile, command_line


class Launch(Struct, frozen=True, kw_only=True):
    """What it takes to start a worker. `marker` is in the environment of its whole tree.

    `resume` is the id of the CLI's session to go on with. `directory` must be the one in which
    that was made. A worker whose session cannot be resumed ends with SessionLost. `nice` lowers its
    priority, as nice(1) does. `decisions` counts what its policy answers.
    """

    id: str
    cli: str
    profile: Profile
    model: str
    directory: str
    environment: Mapping[str, str]
    marker: str
    start_seconds: float
    resume: str | None = None
    ask_models: bool = False
    nice: int = 0
    decisions: Decisions | None = None

    def argv(self) -> list[str]:
        """The command line. Raises ValueError as `command_line` does."""
        argv = command_line(self.cli, self.profile, self.model, self.resume)
        # Its threads inherit it, which they would not if it were set from outside later.
        return ["nice", "-n", str(self.nice), *argv] if self.nice else argv
