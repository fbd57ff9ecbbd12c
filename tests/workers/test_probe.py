"""The probe, with the real CLIs, and with fakes that leave something behind."""

import os
from pathlib import Path

import psutil
import pytest
import trio

from maxd.workers.probe import probe_reset
from tests.workers.rig import FAKE_CLI, real_clis, until, write_probed_fake

LEAVES = {
    "leaks": "something of an earlier conversation was still there after a reset",
    "leaks=2": "something of an earlier conversation was still there after a reset",
    "leaks=4": "something of an earlier conversation was still there after a reset",
    "recalls": "something of an earlier conversation was still there after a reset",
    "crumbs": "more was added after a reset than the note of it",
    "unbinds": "the system text was not there any more after a reset",
    "tools": "a worker without tools had some after a reset",
    "summarizes": "the model was not asked exactly once for a turn",
    "refused": "the claude CLI did not do a reset as expected",
    "same": "the claude CLI did not do a reset as expected",
    "error=3": "the claude CLI did not do a reset as expected",
    "asks": "the claude CLI asked the model when it was to be reset",
    "exit": "the claude CLI ended when it was reset",
}


@pytest.mark.parametrize("name", real_clis())
async def test_the_real_cli_passes(temporary: Path, name: str) -> None:
    cli = real_clis()[name]
    if cli is None:
        pytest.skip("claude-agent-sdk is not installed, and with it no real CLI")
    found = await probe_reset(cli, os.environ)
    assert (found.passed, found.reason) == (True, "")
    assert found.version.startswith("2.")


@pytest.mark.parametrize("version", ["2.1.197", "2.1.330"])
async def test_a_good_fake_passes(temporary: Path, tmp_path: Path, version: str) -> None:
    found = await probe_reset(write_probed_fake(tmp_path, version=version), os.environ)
    assert (found.passed, found.reason, found.version) == (True, "", version)


@pytest.mark.parametrize("kind", LEAVES)
async def test_what_a_reset_leaves_is_found(temporary: Path, tmp_path: Path, kind: str) -> None:
    found = await probe_reset(write_probed_fake(tmp_path, reset=kind), os.environ)
    assert (found.passed, found.reason, found.version) == (False, LEAVES[kind], "2.1.330")


async def test_a_cli_that_hangs(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for constant in ("worker.RESET_SECONDS", "probe.PROBE_SECONDS"):
        monkeypatch.setattr(f"maxd.workers.{constant}", 1.0)
        found = await probe_reset(write_probed_fake(tmp_path, reset="hang"), os.environ)
        assert not found.passed
        assert found.version == "2.1.330"


@pytest.mark.parametrize(
    "at", ["start:exit=1", "ready:signal=SIGSEGV", "ask:exit=0", "message_start:exit=0"]
)
async def test_a_cli_that_crashes(temporary: Path, tmp_path: Path, at: str) -> None:
    found = await probe_reset(write_probed_fake(tmp_path, at=at), os.environ)
    assert not found.passed
    assert found.reason


async def test_what_is_no_cli(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    for path in (tmp_path / "missing", tmp_path / "text", tmp_path):
        found = await probe_reset(path, os.environ)
        assert (found.passed, found.version) == (False, "")
        assert found.reason


async def test_no_place_for_its_home(
    no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    found = await probe_reset(write_probed_fake(tmp_path), os.environ)
    assert found.reason == "the probe itself failed: FileNotFoundError"


async def test_cancelled_it_leaves_nothing(temporary: Path, tmp_path: Path) -> None:
    cli = write_probed_fake(tmp_path, reset="hang")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(probe_reset, cli, os.environ)
        await until(lambda: any(map(is_fake, psutil.Process().children(recursive=True))))
        nursery.cancel_scope.cancel()


def is_fake(process: psutil.Process) -> bool:
    try:
        return str(FAKE_CLI) in process.cmdline()
    except psutil.Error:
        return False


async def test_it_gets_no_login_and_runs_at_low_priority(temporary: Path, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    cli = tmp_path / "claude"
    cli.write_text(f'#!/bin/sh\nenv > "{noted}"\nnice >> "{noted}"\n')
    cli.chmod(0o755)
    theirs = {
        "PATH": os.environ["PATH"],
        "HOME": "/theirs",
        "CLAUDE_CODE_OAUTH_TOKEN": "sk-secret",
        "CLAUDE_CONFIG_DIR": "/theirs",
        "ANTHROPIC_AUTH_TOKEN": "sk-secret",
        "HTTPS_PROXY": "http://proxy",
        "MAXD_API_KEY": "sk-secret",
    }
    assert not (await probe_reset(cli, theirs)).passed
    words = noted.read_text()
    assert "secret" not in words
    assert "theirs" not in words
    assert "proxy\n" not in words
    assert f"HOME={temporary}" in words
    assert int(words.splitlines()[-1]) >= 10
