"""The probes of features: what they find in the real CLIs, and in fakes that lack something."""

import os
from pathlib import Path

import pytest

from maxd.workers.features import PROBES, Bench, Finding, Probe, probe_features, try_probe
from tests.workers.rig import real_clis, write_probed_fake

NAMES = [name for name, _, _ in PROBES]


@pytest.mark.parametrize("name", real_clis())
async def test_the_real_cli_has_all_of_it(temporary: Path, name: str) -> None:
    cli = real_clis()[name]
    if cli is None:
        pytest.skip("claude-agent-sdk is not installed, and with it no real CLI")
    found = await probe_features(cli, os.environ, reset=False)
    assert [(each.name, each.passed, each.reason) for each in found] == [
        (name, True, "") for name in NAMES
    ]


async def found_in(cli: Path, name: str) -> Finding:
    probe, switches_off = {each: (probe, switches_off) for each, probe, switches_off in PROBES}[
        name
    ]
    return await try_probe(name, probe, switches_off, cli, os.environ)


@pytest.mark.parametrize("name", ["bind", "history"])
async def test_a_good_fake_passes(temporary: Path, tmp_path: Path, name: str) -> None:
    cli = write_probed_fake(tmp_path)
    assert await found_in(cli, name) == Finding(name, True, "", _off(name))


def _off(name: str) -> str:
    return {each: off for each, _, off in PROBES}[name]


@pytest.mark.parametrize(
    ("knobs", "name"),
    [
        ({"at": "import=2:exit=1"}, "history"),
        ({"at": "bind:exit=1"}, "bind"),
        ({"at": "start:exit=1"}, "functions"),
    ],
)
async def test_what_is_missing_is_found(
    temporary: Path, tmp_path: Path, knobs: dict[str, str], name: str
) -> None:
    finding = await found_in(write_probed_fake(tmp_path, **knobs), name)
    assert not finding.passed
    assert finding.reason
    assert finding.switches_off


@pytest.mark.parametrize(
    ("script", "name", "reason"),
    [
        ("s/Be brief//", "bind", "the system message did not reach the model"),
        ("/First/d", "history", "the messages did not arrive one by one"),
        ("s/Second/Third/", "history", "a message did not arrive as written"),
    ],
)
async def test_what_the_cli_loses_on_the_way_is_found(
    temporary: Path, tmp_path: Path, script: str, name: str, reason: str
) -> None:
    inner = write_probed_fake(tmp_path)
    inner = inner.rename(inner.with_name("inner"))
    cli = tmp_path / "claude"
    cli.write_text(f'#!/bin/sh\nsed -u "{script}" | {inner} "$@"\n')
    cli.chmod(0o755)
    finding = await found_in(cli, name)
    assert (finding.passed, finding.reason) == (False, reason)


async def test_what_is_no_cli_has_nothing(temporary: Path, tmp_path: Path) -> None:
    found = await probe_features(tmp_path / "missing", os.environ)
    assert [each.name for each in found] == [*NAMES, "reset"]
    assert not any(each.passed for each in found)
    assert all(each.reason and each.switches_off for each in found)


async def test_a_probe_that_breaks_is_no_pass_and_says_nothing_of_why(temporary: Path) -> None:
    async def broken(bench: Bench) -> None:
        raise ValueError("a secret")

    probe: Probe = broken
    finding = await try_probe("x", probe, "nothing", Path("/bin/true"), os.environ)
    assert finding.reason == "the probe itself failed: ExceptionGroup"
