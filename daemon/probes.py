"""What has been shown of the CLI on this machine, and remembered from one start to the next."""

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from maxd.workers.probe import PROBE_VERSION, ResetProbe, probe_reset

RECORD: Final = "probes.json"
# One per version of the CLI; the oldest are of no use any more.
MOST_PASSED: Final = 16
_MOST_BYTES: Final = 64 * 1024


class Subject(Struct, frozen=True):
    """The program that was probed, so exactly that another one is not taken for it. `path` is
    where links lead; the version is there too because a script's own file may not change."""

    path: str
    version: str
    size: int
    mtime_ns: int
    probe: int


class _Record(Struct, frozen=True):
    passed: tuple[Subject, ...] = ()


class Probes:
    """The verdicts on the CLI's versions, one of which is the present one.

    `environment` is what workers inherit. Only what has passed is kept, in `state_directory`: a
    failure may have been that of a full disk or a busy machine, and is looked into again by the
    next daemon. Without a state directory that can be read or written everything works, only
    that nothing is remembered.
    """

    def __init__(
        self,
        state_directory: Path,
        environment: Mapping[str, str],
        log: FilteringBoundLogger,
        *,
        probe: Callable[[Path, Mapping[str, str]], Awaitable[ResetProbe]] = probe_reset,
    ) -> None:
        self._record = state_directory / RECORD
        self._environment = environment
        self._log = log
        self._probe = probe
        self._passed = _read(self._record)
        self._found: dict[Subject, ResetProbe] = {}
        self._cli = Path()
        self._present: Subject | None = None
        self._noted = trio.Event()

    def __repr__(self) -> str:
        version = None if self._present is None else self._present.version
        return f"<Probes, present {version}, reset {self.allows_reset}>"

    @property
    def allows_reset(self) -> bool:
        """Whether a worker of the present version may be reset: False until that has been shown."""
        return self._present is not None and self._present in self._passed

    def allows_reset_of(self, version: str | None) -> bool:
        """The same for a worker of `version`, None for the present one: after an update of the CLI,
        idle workers are still of the one before."""
        return self.allows_reset and version in (None, self.version)

    @property
    def version(self) -> str | None:
        """The present version; None before a worker has told it."""
        return None if self._present is None else self._present.version

    @property
    def failure(self) -> str | None:
        """Why the present version may not be reset, if it was probed and did not pass."""
        found = None if self._present is None else self._found.get(self._present)
        return None if found is None or found.passed else found.reason

    def note(self, cli: Path, version: str) -> None:
        """A worker of `cli` has become ready and told `version`: that is the present one, and
        probed unless it was. Never raises; reads no more than the file's entry."""
        self._cli = cli
        present = subject_of(cli, version, PROBE_VERSION)
        if present != self._present:
            self._present = present
            self._noted.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Probe what is to be probed, one after the other, until cancelled. Start it when the
        daemon is serving. Cancelling ends a running probe and leaves nothing of it."""
        task_status.started()
        while True:
            await self._noted.wait()
            self._noted = trio.Event()
            present = self._present
            if present is None or present in self._passed or present in self._found:
                continue
            found = await self._probe(self._cli, self._environment)
            if found.passed and found.version != present.version:
                # The CLI was updated meanwhile; the next worker will tell.
                continue
            self._found[present] = found
            if found.passed:
                self._log.info("workers can be reset", version=found.version)
                self._passed = (*self._passed, present)[-MOST_PASSED:]
                self._write()
            else:
                self._log.warning("workers cannot be reset", reason=found.reason)

    def _write(self) -> None:
        """Keep what has passed, so that a reader finds the old record or the new one."""
        new = self._record.with_suffix(".new")
        try:
            with open(new, "wb", opener=private) as file:
                file.write(msgspec.json.encode(_Record(self._passed)))
            new.replace(self._record)
        except OSError as error:
            self._log.warning("cannot remember what was probed", reason=error.strerror)
            with suppress(OSError):
                new.unlink()


def _read(path: Path) -> tuple[Subject, ...]:
    """What has passed; nothing where the record is missing, unreadable or of another form."""
    try:
        with open(path, "rb", opener=private) as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=_Record).passed
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ()


def subject_of(cli: Path, version: str, probe: int) -> Subject | None:
    """What is at `cli` now; None for what is gone or has not told its version."""
    try:
        path = os.path.realpath(cli)
        status = os.stat(path)
    except OSError:
        return None
    if not version:
        return None
    return Subject(path, version, status.st_size, status.st_mtime_ns, probe)


def private(path: str, flags: int) -> int:
    """Open, readable for the user only, and never through a link that someone has put there."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
