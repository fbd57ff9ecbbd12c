"""What of a changed configuration can be taken over by a running daemon: pure."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from maxd.daemon.settings import PROFILE_TABLES, Config
from maxd.workers.profiles import Profile

LIVE: Final = frozenset(
    {
        "keys",
        "models",
        "cli.path",
        "pool.max_workers",
        "pool.memory_fraction",
        "pool.spares",
        "pool.warm",
        "pool.warm_minutes",
        "pool.max_parked",
        "pool.freeze_idle",
        "pool.start_timeout_seconds",
        "pool.reuse",
        "pool.reuse_turns",
        "pool.reuse_megabytes",
        "pool.queue_length",
        "pool.queue_seconds",
        "conversations.idle_minutes",
        "profiles.directory",
        "profiles.lenient",
        PROFILE_TABLES,
        "log.format",
        "log.level",
    }
)
"""The settings that are looked at whenever they matter, and not only at the start."""


class Changes(Struct, frozen=True):
    """`config` is to be in force from now on: the old one with the new live settings. `applied` and
    `needs_restart` name the settings that differ; the second are not in `config`."""

    config: Config
    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]


def changes(old: Config, new: Config) -> Changes:
    """What to do so that `old`, which is in force, becomes `new` as far as it can."""
    tables: dict[str, object] = {}
    applied: list[str] = []
    needs_restart: list[str] = []
    for table in msgspec.structs.fields(Config):
        was, is_now = getattr(old, table.name), getattr(new, table.name)
        if not isinstance(was, Struct):
            if was != is_now:
                live = table.name in LIVE
                (applied if live else needs_restart).extend(_names(table.name, was, is_now))
                if live:
                    tables[table.name] = is_now
            continue
        taken = {}
        for entry in msgspec.structs.fields(type(was)):
            value = getattr(is_now, entry.name)
            if value == getattr(was, entry.name):
                continue
            name = f"{table.name}.{entry.name}"
            if name in LIVE:
                applied.append(name)
                taken[entry.name] = value
            else:
                needs_restart.append(name)
        tables[table.name] = msgspec.structs.replace(was, **taken)
    config = msgspec.structs.replace(old, **tables)
    return Changes(config, tuple(applied), tuple(needs_restart))


class ProfileChanges(Struct, frozen=True):
    """The names of profiles whose workers are of old, and of those that are no more."""

    changed: tuple[str, ...]
    removed: tuple[str, ...]


def profile_changes(old: Mapping[str, Profile], new: Mapping[str, Profile]) -> ProfileChanges:
    """What has become of the profiles that there were."""
    return ProfileChanges(
        changed=tuple(name for name in old if name in new and old[name] != new[name]),
        removed=tuple(name for name in old if name not in new),
    )


def _names(table: str, was: Any, is_now: Any) -> list[str]:
    """The tables `[profiles.NAME]` are named one by one, others that are free in their keys are
    not: the names of keys, for example, are nobody's business here."""
    if table != PROFILE_TABLES:
        return [table]
    names = dict.fromkeys((*was, *is_now))
    return [f"profiles.{name}" for name in names if was.get(name) != is_now.get(name)]
