"""What SIGHUP takes over, what needs a restart, and what a mistake leaves as it was."""

import signal
from typing import TYPE_CHECKING

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.config import ConfigError
from maxd.daemon.config_changes import LIVE, ProfileChanges, changes, profile_changes
from maxd.daemon.profile_settings import ProfileTable
from maxd.daemon.reloading import Reloading
from maxd.daemon.sd_notify import Announcer
from maxd.daemon.settings import PROFILE_TABLES, Config, Pool, Server, State, settings
from maxd.workers.faults import ModelNotFound
from tests.daemon.stand_ins import logger

if TYPE_CHECKING:
    from collections.abc import Callable

OLD = Config()
TABLE = ProfileTable(base="chat")


def test_each_live_setting_is_one() -> None:
    assert {setting.path for setting in settings()} | {PROFILE_TABLES} >= LIVE


def test_nothing_has_changed() -> None:
    found = changes(OLD, Config())
    assert (found.config, found.applied, found.needs_restart) == (OLD, (), ())


def test_what_can_be_taken_over_is_and_the_rest_is_named() -> None:
    new = Config(
        pool=Pool(max_workers=3, max_parked=1),
        server=Server(port=1),
        models={"a": "sonnet"},
        profile_tables={"agent": ProfileTable(confine=True), "mine": ProfileTable(base="chat")},
        state=State(directory="/elsewhere"),
    )
    found = changes(OLD, new)
    assert found.applied == (
        "pool.max_workers",
        "pool.max_parked",
        "models",
        "profiles.agent",
        "profiles.mine",
    )
    assert found.needs_restart == ("server.port", "state.directory")
    assert found.config == msgspec.structs.replace(new, server=Server(), state=State())
    again = changes(found.config, new)
    assert again.applied == ()
    assert again.needs_restart == found.needs_restart


def test_profiles_are_compared_with_all_that_they_are_made_of() -> None:
    old = Config(profile_tables={"mine": ProfileTable(base="chat"), "gone": TABLE})
    new = Config(
        profile_tables={
            "chat": ProfileTable(effort="low"),
            "mine": ProfileTable(base="chat"),
            "new": TABLE,
        }
    )
    found = profile_changes(old.make_profiles(), new.make_profiles())
    assert found == ProfileChanges(changed=("chat", "mine"), removed=("gone",))
    same = profile_changes(old.make_profiles(), old.make_profiles())
    assert same == ProfileChanges(changed=(), removed=())


class Daemon:
    """A configuration that can be edited, and what was applied of it."""

    def __init__(self) -> None:
        self.written: Callable[[], Config] = Config
        self.applied: list[Config] = []
        self.log, self.entries = logger()
        self.reloading = Reloading(
            Config(), lambda: self.written(), self._apply, self.log, Announcer({})
        )

    def _apply(self, config: Config) -> None:
        if config.pool.warm == ("nonsense",):
            raise ModelNotFound("there is no model nonsense")
        self.applied.append(config)

    def write(self, config: Config) -> None:
        self.written = lambda: config


def test_a_mistake_leaves_everything_as_it_was() -> None:
    daemon = Daemon()

    def broken() -> Config:
        raise ConfigError("config.toml:3: there is no setting pool.spare")

    daemon.written = broken
    daemon.reloading.reload()
    assert daemon.applied == []
    assert daemon.reloading.config == Config()
    assert "config.toml:3" in str(daemon.reloading.line)
    daemon.write(msgspec.structs.replace(Config(), pool=Pool(warm=("nonsense",))))
    daemon.reloading.reload()
    assert daemon.reloading.config == Config()
    assert daemon.reloading.problems == ("pool.warm: there is no model nonsense",)
    daemon.write(Config(pool=Pool(spares=2)))
    daemon.reloading.reload()
    assert daemon.reloading.line is None
    assert daemon.applied == [Config(pool=Pool(spares=2))]
    assert daemon.reloading.config == Config(pool=Pool(spares=2))


async def test_each_signal_is_a_reload() -> None:
    daemon = Daemon()
    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.reloading.run)
        for spares in (2, 3):
            daemon.write(Config(pool=Pool(spares=spares), server=Server(port=1)))
            signal.raise_signal(signal.SIGHUP)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [config.pool.spares for config in daemon.applied] == [2, 3]
    assert daemon.reloading.line == "needs a restart: server.port"
    assert daemon.reloading.at is not None
    told = [entry for entry in daemon.entries.entries if entry["log_level"] == "warning"]
    assert [entry["settings"] for entry in told] == [["server.port"]] * 2
    assert any(entry["event"] == "configuration reloaded" for entry in daemon.entries.entries)
