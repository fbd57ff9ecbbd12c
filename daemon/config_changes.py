"""What of a changed configuration can be taken over by a running daemon: pure."""

from typing import Final

import msgspec
from msgspec import Struct

from maxd.daemon.settings import Config

LIVE: Final = frozenset(
    {
        "keys",
        "pool.max_workers",
        "pool.memory_fraction",
        "pool.spares",
        "pool.warm",
        "pool.freeze_idle",
        "pool.start_timeout_seconds",
        "pool.reuse",
        "pool.reuse_turns",
        "pool.reuse_megabytes",
        "pool.queue_length",
        "pool.queue_seconds",
        "conversations.idle_minutes",
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
                (applied if live else needs_restart).append(table.name)
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
