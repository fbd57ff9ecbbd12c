"""What the present CLI can do, found out once for each version and remembered between starts."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from maxd.daemon.probes import Subject, private, subject_of
from maxd.workers.features import FEATURES_VERSION, Finding, probe_features

RECORD: Final = "features.json"
MOST_KEPT: Final = 8
_MOST_BYTES: Final = 256 * 1024

SETTLE_SECONDS: Final = 20.0
"""The probes wait that long after a CLI was noted: a start has better things to do, and in a
restart that is soon followed by another they would be for nothing."""

AGAIN_SECONDS: Final = 60.0
"""When something failed, all is tried once more after that, and what passes then has passed:
a failure switches something off, and may have been that of a busy machine."""


class Verdict(Struct, frozen=True):
    """What was found of one program."""

    subject: Subject
    findings: tuple[Finding, ...]


class _Record(Struct, frozen=True):
    verdicts: tuple[Verdict, ...] = ()


class FeatureVerdicts:
    """The findings on the CLI's versions, one of which is the present one.

    As with resets, only what has passed whole is kept in `state_directory`: a failure may have been
    that of a busy machine, and is looked into again by the next daemon. `environment` is what
    workers inherit.
    """

    def __init__(
        self,
        state_directory: Path,
        environment: Mapping[str, str],
        log: FilteringBoundLogger,
        *,
        probe: Callable[[Path, Mapping[str, str]], Awaitable[list[Finding]]] | None = None,
    ) -> None:
        self._record = state_directory / RECORD
        self._environment = environment
        self._log = log
        self._probe = probe or _without_reset
        self._known = {verdict.subject: verdict.findings for verdict in _read(self._record)}
        self._cli = Path()
        self._present: Subject | None = None
        self._noted = trio.Event()

    @property
    def findings(self) -> tuple[Finding, ...] | None:
        """What was found of the present CLI; None until that is known."""
        return None if self._present is None else self._known.get(self._present)

    def note(self, cli: Path, version: str) -> None:
        """A worker of `cli` has become ready and told `version`. Never raises."""
        self._cli = cli
        present = subject_of(cli, version, FEATURES_VERSION)
        if present != self._present:
            self._present = present
            self._noted.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Probe what is to be probed until cancelled, which leaves nothing of a running probe."""
        task_status.started()
        while True:
            await self._noted.wait()
            self._noted = trio.Event()
            present = self._present
            if present is None or present in self._known:
                continue
            await trio.sleep(SETTLE_SECONDS)
            findings = tuple(await self._probe(self._cli, self._environment))
            if not _all_passed(findings):
                await trio.sleep(AGAIN_SECONDS)
                again = await self._probe(self._cli, self._environment)
                findings = tuple(
                    first if first.passed else second
                    for first, second in zip(findings, again, strict=True)
                )
            if subject_of(self._cli, present.version, FEATURES_VERSION) != present:
                # The CLI was replaced meanwhile; the next worker will tell.
                continue
            self._known[present] = findings
            for finding in findings:
                if not finding.passed:
                    self._log.warning(
                        "the claude CLI does not do all that is expected of it",
                        version=present.version,
                        probe=finding.name,
                        reason=finding.reason,
                        switches_off=finding.switches_off,
                    )
            if _all_passed(findings):
                self._log.info("the claude CLI does all that is expected", version=present.version)
                self._write()

    def _write(self) -> None:
        passed = [
            Verdict(subject, findings)
            for subject, findings in self._known.items()
            if _all_passed(findings)
        ]
        new = self._record.with_suffix(".new")
        try:
            with open(new, "wb", opener=private) as file:
                file.write(msgspec.json.encode(_Record(tuple(passed[-MOST_KEPT:]))))
            os.replace(new, self._record)
        except OSError as error:
            self._log.warning("cannot remember what was probed", reason=error.strerror)
            with suppress(OSError):
                new.unlink()


async def _without_reset(cli: Path, environment: Mapping[str, str]) -> list[Finding]:
    # Resets have their own probe, which decides and does not only tell.
    return await probe_features(cli, environment, reset=False)


def _all_passed(findings: Sequence[Finding]) -> bool:
    return all(finding.passed for finding in findings)


def _read(path: Path) -> tuple[Verdict, ...]:
    """What has passed; nothing where the record is missing, unreadable or of another form."""
    try:
        with open(path, "rb", opener=private) as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=_Record).verdicts
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ()
