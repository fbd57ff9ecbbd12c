"""Verdicts on the CLI: when it is probed, and what is remembered of it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from maxd.daemon.probes import MOST_PASSED, RECORD, Probes
from maxd.workers.probe import ResetProbe

LOG = structlog.get_logger()
# Of the clock that jumps: a probe here only lets time pass.
PROBE_SECONDS = 1.0


class Lab:
    """A state directory, a program, and a probe that finds what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self.cli = folder / "claude"
        self.cli.write_text("program")
        self.found = ResetProbe(True, "", "2.1.330")
        self.asked: list[Path] = []
        self.running = 0

    def probes(self) -> Probes:
        return Probes(self.state, {"PATH": "/bin"}, LOG, probe=self.probe)

    async def probe(self, cli: Path, environment: Mapping[str, str]) -> ResetProbe:
        assert environment == {"PATH": "/bin"}
        assert self.running == 0
        self.running += 1
        self.asked.append(cli)
        try:
            await trio.sleep(PROBE_SECONDS)
        finally:
            self.running -= 1
        return self.found

    def record(self) -> Any:
        return json.loads((self.state / RECORD).read_bytes())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def settle(probes: Probes) -> None:
    """Let it do all it has to do."""
    async with trio.open_nursery() as nursery:
        await nursery.start(probes.run)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()


async def test_no_reset_before_a_probe_has_passed(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    probes = lab.probes()
    assert not probes.allows_reset
    async with trio.open_nursery() as nursery:
        await nursery.start(probes.run)
        probes.note(lab.cli, "2.1.330")
        await trio.sleep(PROBE_SECONDS / 2)
        assert lab.running == 1
        assert not probes.allows_reset
        await trio.sleep(PROBE_SECONDS)
        assert probes.allows_reset
        assert probes.allows_reset_of("2.1.330")
        assert not probes.allows_reset_of("2.1.197")
        assert probes.failure is None
        nursery.cancel_scope.cancel()


async def test_a_version_is_probed_once(lab: Lab, autojump_clock: trio.testing.MockClock) -> None:
    for _ in range(3):
        probes = lab.probes()
        for _ in range(3):
            probes.note(lab.cli, "2.1.330")
            await settle(probes)
        assert probes.allows_reset
    assert len(lab.asked) == 1


async def test_what_was_noted_before_it_runs_is_probed(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    probes = lab.probes()
    probes.note(lab.cli, "2.1.330")
    await settle(probes)
    assert probes.allows_reset


async def test_a_failure_is_not_asked_again_before_the_next_start(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    lab.found = ResetProbe(False, "something was left", "2.1.330")
    probes = lab.probes()
    for version in ("2.1.330", "2.1.331", "2.1.330"):
        probes.note(lab.cli, version)
        await settle(probes)
        assert not probes.allows_reset
        assert probes.failure == "something was left"
    assert len(lab.asked) == 2
    assert not (lab.state / RECORD).exists()
    lab.found = ResetProbe(True, "", "2.1.330")
    again = lab.probes()
    again.note(lab.cli, "2.1.330")
    await settle(again)
    assert again.allows_reset


@pytest.mark.parametrize("change", ["version", "size", "mtime", "path", "probe"])
async def test_another_program_has_to_pass_by_itself(
    lab: Lab,
    change: str,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = lab.probes()
    first.note(lab.cli, "2.1.330")
    await settle(first)
    cli, version = lab.cli, "2.1.330"
    if change == "version":
        version = "2.1.331"
        lab.found = ResetProbe(True, "", version)
    elif change == "size":
        status = cli.stat()
        cli.write_text("another program")
        os.utime(cli, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "mtime":
        os.utime(cli, ns=(1, 1))
    elif change == "path":
        cli = cli.rename(cli.with_name("moved"))
    else:
        monkeypatch.setattr("maxd.daemon.probes.PROBE_VERSION", 10_000)
    for probes in (first, lab.probes()):
        asked = len(lab.asked)
        probes.note(cli, version)
        assert not probes.allows_reset
        if probes is first:
            continue
        await settle(probes)
        assert probes.allows_reset
        assert len(lab.asked) == asked + 1


async def test_a_link_is_what_it_leads_to(lab: Lab, autojump_clock: trio.testing.MockClock) -> None:
    link = lab.cli.with_name("link")
    link.symlink_to(lab.cli)
    probes = lab.probes()
    probes.note(lab.cli, "2.1.330")
    await settle(probes)
    probes.note(link, "2.1.330")
    assert probes.allows_reset


async def test_an_update_in_the_middle_of_a_probe(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    """What has passed is the new version, what was noted the old one."""
    lab.found = ResetProbe(True, "", "2.1.331")
    probes = lab.probes()
    probes.note(lab.cli, "2.1.330")
    await settle(probes)
    assert not probes.allows_reset
    lab.cli.write_text("the new program")
    probes.note(lab.cli, "2.1.331")
    await settle(probes)
    assert probes.allows_reset
    assert not probes.allows_reset_of("2.1.330")


async def test_a_program_that_is_gone_or_has_no_version(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    probes = lab.probes()
    probes.note(lab.cli, "")
    probes.note(lab.cli.with_name("missing"), "2.1.330")
    await settle(probes)
    assert lab.asked == []
    assert not probes.allows_reset


async def test_cancelled_in_the_middle_it_is_done_at_the_next_start(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    probes = lab.probes()
    probes.note(lab.cli, "2.1.330")
    with trio.move_on_after(0.5):
        await probes.run()
    assert not probes.allows_reset
    again = lab.probes()
    again.note(lab.cli, "2.1.330")
    await settle(again)
    assert again.allows_reset


BROKEN = {
    "empty": b"",
    "binary": b"\xff\x00",
    "deep": b"[" * 100_000,
    "form": b'{"passed": [{"path": 7}]}',
    "list": b"[]",
    "half": b'{"passed": [',
    "surrogate": b'{"passed": "\\ud800"}',
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_record_is_ignored(
    lab: Lab, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    (lab.state / RECORD).write_bytes(BROKEN[name])
    probes = lab.probes()
    probes.note(lab.cli, "2.1.330")
    assert not probes.allows_reset
    await settle(probes)
    assert probes.allows_reset
    assert len(lab.record()["passed"]) == 1


async def test_a_record_that_is_a_link_or_a_folder(
    lab: Lab, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text('{"passed": []}')
    (lab.state / RECORD).symlink_to(theirs)
    probes = lab.probes()
    probes.note(lab.cli, "2.1.330")
    await settle(probes)
    assert theirs.read_text() == '{"passed": []}'
    assert not (lab.state / RECORD).is_symlink()
    (lab.state / RECORD).unlink()
    (lab.state / RECORD).mkdir()
    other = lab.probes()
    other.note(lab.cli, "2.1.330")
    await settle(other)
    assert other.allows_reset
    assert os.listdir(lab.state) == [RECORD]


async def test_without_a_state_directory_only_memory_is_lost(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    lab.state.rmdir()
    probes = lab.probes()
    probes.note(lab.cli, "2.1.330")
    await settle(probes)
    assert probes.allows_reset


async def test_the_record_does_not_grow_for_ever(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    probes = lab.probes()
    for number in range(MOST_PASSED + 5):
        lab.found = ResetProbe(True, "", f"2.1.{number}")
        probes.note(lab.cli, f"2.1.{number}")
        await settle(probes)
    assert len(lab.record()["passed"]) == MOST_PASSED
    assert lab.record()["passed"][-1]["version"] == f"2.1.{MOST_PASSED + 4}"
    assert (lab.state / RECORD).stat().st_mode & 0o777 == 0o600
