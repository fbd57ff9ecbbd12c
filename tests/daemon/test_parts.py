"""How the parts hang together: what each is told of the others, with no process and no socket."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from maxd.daemon.account import Closure
from maxd.daemon.backend import PAUSE_SECONDS
from maxd.daemon.notices import Kind, Message
from maxd.daemon.parts import Parts
from maxd.daemon.profile_settings import Profiles, ProfileTable
from maxd.daemon.sd_notify import Announcer
from maxd.daemon.settings import Cli, Config, Pool, State
from maxd.workers.faults import (
    BackendUnavailable,
    ModelNotFound,
    TurnTimedOut,
    WorkerDied,
    WorkerStartFailed,
)
from maxd.workers.turn import AccountLimit
from maxd.workers.worker import Readiness
from tests.daemon.stand_ins import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

GONE = BackendUnavailable("there is no claude CLI")
FULL = AccountLimit("rejected", "five_hour", 1.0, resets_at=time.time() + 3600)


class Recording:
    """A channel that keeps what it is given."""

    name = "recording"

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)

    async def sends(self, *expected: tuple[Kind, bool]) -> None:
        """Wait until these are all the notices that were sent: kind, and whether it is over."""
        await until(lambda: len(self.sent) >= len(expected))
        assert [(each.notice.kind, each.notice.over) for each in self.sent] == [*expected]


class Bench:
    """The parts of a daemon that keeps no spares and has no CLI, and what they tell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cli = folder / "claude"
        self.channel = Recording()
        self.configured: list[Config] = []
        self._file = self.config()
        log, _ = logger()
        self.parts = Parts(
            self._file,
            {"PATH": "/usr/bin:/bin"},
            "test",
            log,
            announcer=Announcer({}),
            load=lambda: self._file,
            observers=(),
            on_config=self.configured.append,
            channels=[self.channel],
        )

    def install(self) -> None:
        """Have a CLI that is logged in."""
        self.cli.write_text("""#!/bin/sh\necho '{"loggedIn": true, "authMethod": "claude.ai"}'\n""")
        self.cli.chmod(0o755)

    def reload(self, config: Config) -> None:
        """Have `config` read again."""
        self._file = config
        self.parts.reloading.reload()

    def config(
        self, *, cli: str = "", warm: "Sequence[str]" = (), **tables: ProfileTable
    ) -> Config:
        return Config(
            cli=Cli(path=cli or str(self.cli)),
            pool=Pool(spares=0, warm=tuple(warm)),
            profiles=Profiles(directory=str(self.folder / "work")),
            profile_tables=tables,
            state=State(directory=str(self.folder / "state")),
        )


@pytest.fixture
async def bench(tmp_path: Path, nursery: trio.Nursery) -> Bench:
    """With a notifier and a pool that run; both end with the test."""
    bench = Bench(tmp_path)
    await nursery.start(bench.parts.notifier.run)
    await nursery.start(bench.parts.pool.run)
    return bench


async def until(condition: Callable[[], bool]) -> None:
    """Processes and threads do not share a virtual clock."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await trio.lowlevel.checkpoint()


async def test_the_backend_opens_and_closes_the_pool(bench: Bench) -> None:
    parts = bench.parts
    parts.backend_reactions.changed(GONE)
    await until(lambda: parts.pool.fault is not None)
    assert parts.overview.fault is not None
    assert parts.overview.fault.message == GONE.message
    assert parts.health.line == f"degraded: {GONE.message}"
    parts.backend_reactions.changed(None)
    await until(lambda: parts.pool.fault is None)
    await bench.channel.sends((Kind.BACKEND_UNAVAILABLE, False), (Kind.BACKEND_UNAVAILABLE, True))
    told = [event.what for event in parts.overview.status().events]
    assert sorted(told) == ["claude CLI can be used", "claude CLI cannot be used"]


@pytest.mark.parametrize("failed", ["start", "turn"])
async def test_what_fails_has_the_cli_looked_at_again(
    bench: Bench, nursery: trio.Nursery, mock_clock: MockClock, failed: str
) -> None:
    parts = bench.parts
    await nursery.start(parts.backend.run, parts.backend_reactions)
    await until(lambda: parts.pool.fault is not None)
    bench.install()
    if failed == "start":
        parts.worker_reactions.start_failed(GONE)
    else:
        parts.turn_reactions.failed(GONE)
    await wait_all_tasks_blocked()
    # Long before it would look by itself.
    mock_clock.jump(PAUSE_SECONDS)
    await until(lambda: parts.pool.fault is None)
    assert parts.backend.cli == bench.cli


async def test_a_login_that_ends_and_is_renewed(bench: Bench) -> None:
    bench.parts.backend_reactions.login_expiring(time.time() + 3600)
    bench.parts.backend_reactions.login_renewed()
    await bench.channel.sends((Kind.LOGIN_EXPIRES, False), (Kind.LOGIN_EXPIRES, True))


async def test_another_login_has_windows_of_its_own(bench: Bench) -> None:
    parts = bench.parts
    parts.account.note(FULL, "sonnet")
    limits = parts.overview.status().limits
    assert limits is not None
    assert [limit.window for limit in limits] == ["five_hour"]
    await bench.channel.sends((Kind.ACCOUNT_LIMIT, False))
    parts.backend_reactions.login_replaced()
    assert parts.overview.status().limits is None
    bench.parts.turn_reactions.account_opened(Closure("", "five_hour", FULL.resets_at))
    await bench.channel.sends((Kind.ACCOUNT_LIMIT, False), (Kind.ACCOUNT_LIMIT, True))


async def test_starts_that_fail_are_told_until_one_works(bench: Bench) -> None:
    # Told by the backend, when it has looked.
    bench.parts.worker_reactions.start_failed(GONE)
    bench.parts.worker_reactions.start_failed(WorkerStartFailed("it said nothing"))
    bench.parts.worker_reactions.ready(Readiness("2.1.330", None))
    await bench.channel.sends((Kind.POOL_DEGRADED, False), (Kind.POOL_DEGRADED, True))
    assert bench.channel.sent[0].notice.text.startswith("It said nothing.")
    assert bench.parts.probes.version is None, "there is no CLI to probe"


async def test_only_an_overdue_turn_is_told(bench: Bench) -> None:
    for fault in (GONE, WorkerDied("it has died"), TurnTimedOut("it said nothing")):
        bench.parts.turn_reactions.failed(fault)
    await bench.channel.sends((Kind.TURN_TIMED_OUT, False))


async def test_a_reload_is_seen_by_all_and_profiles_are_known_on(bench: Bench) -> None:
    parts, new = bench.parts, bench.folder / "new"
    review = ProfileTable(base="agent", directory=str(new))
    bench.reload(bench.config(review=review))
    assert parts.reloading.problems == ()
    assert await trio.Path(new).is_dir()
    assert parts.catalog.find("sonnet:review").profile == "review"
    assert parts.in_force.directories["review"] == str(new)
    bench.reload(bench.config())
    with pytest.raises(ModelNotFound):
        parts.catalog.find("sonnet:review")
    assert parts.in_force.profiles["review"].directory == str(new)
    assert parts.overview.status().reload.problems == ()
    assert bench.configured == [bench.config(review=review), bench.config()]


@pytest.mark.parametrize("mistake", ["cli", "directory", "warm"])
async def test_a_mistake_changes_nothing(bench: Bench, mistake: str) -> None:
    parts, before = bench.parts, bench.parts.in_force.config
    file = bench.folder / "file"
    file.touch()
    wrong = {
        "cli": bench.config(cli=str(bench.folder / "nothing")),
        "directory": bench.config(
            review=ProfileTable(base="agent", directory=str(file / "inside"))
        ),
        "warm": bench.config(warm=["sonnet:nothing"]),
    }
    bench.reload(wrong[mistake])
    [problem] = parts.overview.status().reload.problems
    assert {"cli": "nothing", "directory": "profiles", "warm": "pool.warm"}[mistake] in problem
    assert parts.in_force.config is before
    assert "review" not in parts.in_force.profiles
    assert bench.configured == []
