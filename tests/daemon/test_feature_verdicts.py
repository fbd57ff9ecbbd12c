"""When the CLI's features are probed, and what is remembered of them; in virtual time."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from maxd.daemon.feature_verdicts import (
    AGAIN_SECONDS,
    RECORD,
    SETTLE_SECONDS,
    FeatureVerdicts,
)
from maxd.workers.features import Finding
from tests.daemon.stand_ins import logger

GOOD = [Finding("bind", True, "", "nothing works")]
BAD = [Finding("bind", False, "it did not", "nothing works")]


class Lab:
    """A state directory, a program, and a probe that finds what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self.cli = folder / "claude"
        self.cli.write_text("program")
        self.found = GOOD
        self.asked = 0
        self.log, self.entries = logger()

    def verdicts(self) -> FeatureVerdicts:
        return FeatureVerdicts(self.state, {}, self.log, probe=self.probe)

    async def probe(self, cli: Path, environment: Mapping[str, str]) -> list[Finding]:
        self.asked += 1
        await trio.sleep(5)
        return self.found


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def settle(
    verdicts: FeatureVerdicts, seconds: float = SETTLE_SECONDS + AGAIN_SECONDS + 20
) -> None:
    with trio.move_on_after(seconds):
        await verdicts.run()


async def test_a_version_is_probed_once_and_not_at_once(
    lab: Lab, autojump_clock: trio.abc.Clock
) -> None:
    verdicts = lab.verdicts()
    verdicts.note(lab.cli, "2.1.330")
    await settle(verdicts, SETTLE_SECONDS - 1)
    assert (lab.asked, verdicts.findings) == (0, None)
    for _ in range(2):
        verdicts = lab.verdicts()
        for _ in range(2):
            verdicts.note(lab.cli, "2.1.330")
            await settle(verdicts)
        assert verdicts.findings == tuple(GOOD)
    assert lab.asked == 1
    assert (lab.state / RECORD).stat().st_mode & 0o777 == 0o600


async def test_a_failure_is_told_and_looked_into_again_by_the_next_daemon(
    lab: Lab, autojump_clock: trio.abc.Clock
) -> None:
    lab.found = BAD
    for _ in range(2):
        verdicts = lab.verdicts()
        for _ in range(2):
            verdicts.note(lab.cli, "2.1.330")
            await settle(verdicts)
        assert verdicts.findings == tuple(BAD)
    assert lab.asked == 4, "each has tried a second time"
    told = [entry for entry in lab.entries.entries if entry.get("probe") == "bind"]
    assert len(told) == 2
    assert told[0]["switches_off"] == "nothing works"


async def test_what_passes_the_second_time_has_passed(
    lab: Lab, autojump_clock: trio.abc.Clock
) -> None:
    lab.found = BAD
    async with trio.open_nursery() as nursery:
        verdicts = lab.verdicts()
        verdicts.note(lab.cli, "2.1.330")
        nursery.start_soon(verdicts.run)
        await trio.sleep(SETTLE_SECONDS + 6)
        lab.found = GOOD
        await trio.sleep(AGAIN_SECONDS + 6)
        nursery.cancel_scope.cancel()
    assert verdicts.findings == tuple(GOOD)
    assert (lab.state / RECORD).exists()


async def test_another_program_is_probed_by_itself(
    lab: Lab, autojump_clock: trio.abc.Clock
) -> None:
    verdicts = lab.verdicts()
    verdicts.note(lab.cli, "2.1.330")
    await settle(verdicts)
    os.utime(lab.cli, ns=(1, 1))
    verdicts.note(lab.cli, "2.1.330")
    assert verdicts.findings is None
    await settle(verdicts)
    assert lab.asked == 2
    verdicts.note(lab.cli.with_name("missing"), "2.1.330")
    await settle(verdicts)
    assert lab.asked == 2


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b'{"verdicts": 7}'])
async def test_a_broken_record_is_ignored(
    lab: Lab, content: bytes, autojump_clock: trio.abc.Clock
) -> None:
    (lab.state / RECORD).write_bytes(content)
    verdicts = lab.verdicts()
    verdicts.note(lab.cli, "2.1.330")
    assert verdicts.findings is None
    await settle(verdicts)
    assert verdicts.findings == tuple(GOOD)
