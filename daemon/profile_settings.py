"""The tables `[profiles.NAME]`: their fields, and the profiles that they make.

A table changes a profile that exists without configuration field by field, or makes a new one of
its `base`. All of it is checked when the configuration is read: nothing of a request is.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from maxd.daemon.setting_types import AbsolutePath
from maxd.workers.profiles import (
    BUILT_IN,
    NAME_PATTERN,
    TOOL_PATTERN,
    Profile,
    Source,
    Streaming,
)
from maxd.workers.rules import BadRule, parse_rule

ABSOLUTE: Final = r"(?:/|~/)[^\0-\x1f]*"

ProfileName = Annotated[
    str, Meta(title="the name of a profile", pattern=rf"\A{NAME_PATTERN}\Z", max_length=32)
]
_Tool = Annotated[
    str, Meta(title="the name of a built-in tool", pattern=rf"\A{TOOL_PATTERN}\Z", max_length=128)
]
_Rule = Annotated[
    str,
    Meta(
        title="a rule such as Bash(git *)",
        pattern=rf"\A{TOOL_PATTERN}\*?(?:\([^\0-\x1f]+\))?\Z",
        max_length=512,
    ),
]
_Directory = Annotated[
    str,
    Meta(title="an absolute path (~/ is understood)", pattern=rf"\A{ABSOLUTE}\Z", max_length=1024),
]
_Mcp = Annotated[
    str,
    Meta(
        title='"user", "none", or the path of a file of servers',
        pattern=rf"\A(?:user|none|{ABSOLUTE})\Z",
        max_length=1024,
    ),
]
_Minutes = Annotated[float, Meta(ge=0, le=10_080)]


class Profiles(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What profiles have in common."""

    directory: Annotated[
        AbsolutePath,
        Meta(
            description="Working directory of the workers; empty is a folder of maxd's own "
            "in the user's data directory.",
        ),
    ] = ""
    lenient: Annotated[
        tuple[ProfileName, ...],
        Meta(
            description="Profiles whose workers go on although the last user message of the "
            "turn before has vanished from the history.",
            max_length=64,
        ),
    ] = ()


class ProfileTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[profiles.NAME]`; what is unset is as in the base."""

    base: Annotated[
        Literal["agent", "chat", "openclaw"] | UnsetType,
        Meta(description="The profile that a new one is made of."),
    ] = UNSET
    tools: Annotated[
        Literal["all", "none"] | Annotated[tuple[_Tool, ...], Meta(max_length=64)] | UnsetType,
        Meta(description="The CLI's built-in tools that the model has."),
    ] = UNSET
    allow: Annotated[
        Annotated[tuple[_Rule, ...], Meta(max_length=256)] | UnsetType,
        Meta(description="Rules for what tools may do; empty is everything."),
    ] = UNSET
    deny: Annotated[
        Annotated[tuple[_Rule, ...], Meta(max_length=256)] | UnsetType,
        Meta(description="Rules for what tools may not do, whatever is allowed."),
    ] = UNSET
    directory: Annotated[
        _Directory | UnsetType,
        Meta(description="Working directory; without it that of profiles.directory."),
    ] = UNSET
    directories: Annotated[
        Annotated[tuple[_Directory, ...], Meta(max_length=64)] | UnsetType,
        Meta(description="Further directories that the tools may work in."),
    ] = UNSET
    confine: Annotated[
        bool | UnsetType,
        Meta(
            description="Whether file tools are kept inside of these directories, and a shell "
            "needs a rule that allows its commands."
        ),
    ] = UNSET
    settings: Annotated[
        Annotated[tuple[Source, ...], Meta(max_length=3)] | UnsetType,
        Meta(
            description="Which of the CLI's own settings, memories and hooks are read. With none "
            "and no tools the CLI is started in its safe mode."
        ),
    ] = UNSET
    mcp: Annotated[
        _Mcp | UnsetType,
        Meta(description="MCP servers: those of the user's settings, none, or those of a file."),
    ] = UNSET
    browser: Annotated[
        Literal["user", "on", "off"] | UnsetType,
        Meta(description="The CLI's Chrome integration; user is as it is set up."),
    ] = UNSET
    system: Annotated[
        Literal["append", "replace"] | UnsetType,
        Meta(description="What the client's system message does to the CLI's own prompt."),
    ] = UNSET
    streaming: Annotated[
        Streaming | UnsetType,
        Meta(description="Which text of the model the client sees, and when."),
    ] = UNSET
    effort: Annotated[
        Literal["", "low", "medium", "high", "xhigh", "max"] | UnsetType,
        Meta(description="How hard the model thinks; empty is the CLI's default."),
    ] = UNSET
    reuse: Annotated[
        bool | UnsetType,
        Meta(description="Whether workers without tools are reset for other conversations."),
    ] = UNSET
    activity_minutes: Annotated[
        _Minutes | UnsetType,
        Meta(description="How long a turn may make no progress at all, in minutes; 0 is for ever."),
    ] = UNSET
    turn_minutes: Annotated[
        _Minutes | UnsetType,
        Meta(description="How long a turn may take, in minutes; 0 is for ever."),
    ] = UNSET
    lenient: Annotated[
        bool | UnsetType,
        Meta(
            description="Whether workers go on although the last user message of the turn before "
            "has vanished from the history."
        ),
    ] = UNSET
    show_tools: Annotated[
        bool | UnsetType,
        Meta(description="Whether the client is shown, as thinking, which tool is run."),
    ] = UNSET
    on_disconnect: Annotated[
        Literal["cancel", "finish"] | UnsetType,
        Meta(description="Whether a turn ends when its client goes away, or is finished."),
    ] = UNSET
    with_functions: Annotated[
        ProfileName | UnsetType,
        Meta(
            description="The profile that serves requests with functions of the client; its own "
            "name keeps its tools beside them."
        ),
    ] = UNSET


class BadProfile(ValueError):
    """A profile that cannot be made. `field` is the setting at fault, if it is one."""

    def __init__(self, profile: str, field: str, reason: str) -> None:
        super().__init__(f"profiles.{profile}.{field} {reason}")
        self.profile, self.field = profile, field


def make_profiles(
    tables: Mapping[str, ProfileTable],
    *,
    directory: Path,
    lenient: Collection[str] = (),
) -> dict[str, Profile]:
    """All profiles, by name: those that exist without configuration, and those of `tables`.

    `directory` is the working directory of those that name none, `lenient` names what is lenient
    besides. Raises BadProfile.
    """
    made = {name: _made(name, base, tables.get(name)) for name, base in BUILT_IN.items()}
    for name, table in tables.items():
        if name not in BUILT_IN:
            if table.base is UNSET:
                reason = f"is missing: a new profile is made of one of {', '.join(BUILT_IN)}."
                raise BadProfile(name, "base", reason)
            made[name] = _made(name, made[table.base], table)
    for name in lenient:
        if name not in made:
            raise ValueError(f"profiles.lenient names {name}, which is no profile.")
        made[name] = msgspec.structs.replace(made[name], lenient=True)
    for profile in made.values():
        if profile.with_functions not in made:
            reason = f"names {profile.with_functions}, which is no profile."
            raise BadProfile(profile.name, "with_functions", reason)
    return {name: _placed(profile, directory) for name, profile in made.items()}


def _made(name: str, base: Profile, table: ProfileTable | None) -> Profile:
    given: dict[str, Any] = {} if table is None else _given(table)
    if name in BUILT_IN and "base" in given:
        raise BadProfile(name, "base", "cannot be set: the profile exists without configuration.")
    given.pop("base", None)
    for field in ("allow", "deny"):
        for rule in given.get(field, ()):
            try:
                parse_rule(rule)
            except BadRule as bad:
                raise BadProfile(name, field, f"has the rule {rule!r}, which {bad}.") from None
    profile = msgspec.structs.replace(base, **given, name=name)
    if "with_functions" not in given and (
        base.with_functions == base.name or profile.tools == "none"
    ):
        profile = msgspec.structs.replace(profile, with_functions=name)
    return profile


def _given(table: ProfileTable) -> dict[str, Any]:
    return {key: value for key, value in _items(table) if value is not UNSET}


def _items(table: ProfileTable) -> Iterator[tuple[str, Any]]:
    return ((key, getattr(table, key)) for key in table.__struct_fields__)


def _placed(profile: Profile, directory: Path) -> Profile:
    """The profile with absolute paths."""
    mcp = profile.mcp
    return msgspec.structs.replace(
        profile,
        directory=str(Path(profile.directory or directory).expanduser()),
        directories=tuple(str(Path(each).expanduser()) for each in profile.directories),
        mcp=mcp if mcp in ("user", "none") else str(Path(mcp).expanduser()),
    )


def default_of(profile: str, field: str) -> object:
    """What `field` is in one of the profiles that exist without configuration; None for `base`."""
    return getattr(BUILT_IN[profile], field, None)
