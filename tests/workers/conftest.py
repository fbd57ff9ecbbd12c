"""Fixtures for tests that run whole workers."""

import gc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import trio

from maxd.workers.loopback import serve_loopback_model
from tests.workers.rig import FakeRig, RealRig, Rig, real_clis, survivors, write_fake

VARIANTS = ["fake", *real_clis()]


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Around the whole run of a test: it leaves no descriptor, child, zombie or descendant."""
    gc.collect()
    descriptors = psutil.Process().num_fds()
    children = psutil.Process().children()
    yield
    gc.collect()
    assert psutil.Process().num_fds() == descriptors
    assert psutil.Process().children() == children
    assert survivors() == []


@pytest.fixture
def fake(no_leaks: None, tmp_path: Path) -> FakeRig:
    """The fake CLI, with a home of its own."""
    home = tmp_path / "home"
    home.mkdir()
    return FakeRig(write_fake(tmp_path), home)


@pytest.fixture(params=VARIANTS)
async def rig(
    request: pytest.FixtureRequest, no_leaks: None, tmp_path: Path, nursery: trio.Nursery
) -> Rig:
    """The fake CLI, and each real one with a loopback model."""
    home = tmp_path / "home"
    home.mkdir()
    if request.param == "fake":
        return FakeRig(write_fake(tmp_path), home)
    return await connected(request.param, home, nursery)


@pytest.fixture(params=[*real_clis()])
async def real_rig(
    request: pytest.FixtureRequest, no_leaks: None, tmp_path: Path, nursery: trio.Nursery
) -> RealRig:
    """Each real CLI with a loopback model."""
    home = tmp_path / "home"
    home.mkdir()
    return await connected(request.param, home, nursery)


async def connected(variant: str, home: Path, nursery: trio.Nursery) -> RealRig:
    """A real CLI with a loopback model of its own."""
    cli = real_clis()[variant]
    if cli is None:
        pytest.skip("claude-agent-sdk is not installed, and with it no real CLI")
    real = RealRig(cli, home)
    real.connect(await nursery.start(partial(serve_loopback_model, script=real.serve)))
    return real


@pytest.fixture
def temporary(no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the probes make their homes; it is empty again after the test."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(path))
    yield path
    assert list(path.iterdir()) == []
