"""Profiles: what is fixed when a worker's process starts, and the command line it makes."""

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

# Anything else the CLI would take for the title of a session or the name of a file.
SESSION = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

NAME_PATTERN: Final = "[a-z][a-z0-9_-]{0,31}"
"""A profile's name, as it follows the `:` of a model id."""

TOOL_PATTERN: Final = "[A-Za-z][A-Za-z0-9_-]{0,127}"
"""The name of a tool of the CLI's own, or of an MCP server's (`mcp__server__tool`)."""

SEARCH_TOOL: Final = "WebSearch"
"""The CLI's tool that searches the web."""

Streaming: TypeAlias = Literal["live", "smart", "adaptive"]
Source: TypeAlias = Literal["user", "project", "local"]

# A rule asks for every tool, so that the CLI allows none by itself: not what it takes to be
# read-only, not by the user's own rules, not by a hook of theirs (2.1.197, 2.1.330).
_ASK_ALWAYS: Final = msgspec.json.encode({"permissions": {"ask": ["*"]}}).decode()
# Of a rule the CLI is to be told on its command line, where commas and spaces part the rules.
_PLAIN_RULE = re.compile(rf"{TOOL_PATTERN}(?:\([A-Za-z0-9_./~*-][A-Za-z0-9_./~* -]*\))?")
# The same in the CLI's words: it takes `/etc` for a path below the settings file.
_PATH_RULE = re.compile(r"(Read|Edit)\(/+(.*)\)")


class Profile(Struct, frozen=True, kw_only=True):
    """A named bundle of what is fixed when a process starts. Nothing of a request changes it.

    `tools`: all of the CLI's built-in tools, none, or those named. `allow` and `deny` are
    permission rules (see policy), `confine` keeps the file tools inside of `directory` and
    `directories`. `system`: whether the client's system message replaces the CLI's own prompt or
    is appended to it. `settings`: which of the CLI's settings files, memories, agents and skills
    are read. `mcp`: "user" for the MCP servers of those settings, "none", or the path of a
    configuration of servers. `browser`: the CLI's Chrome integration; "user" is as it is set up.
    `streaming`: see daemon.release. `effort`: the CLI's word, "" is its default. `reuse`: whether a
    worker may be reset for another conversation, where that is safe at all. `lenient`: see
    lineage. `show_tools`: whether the client sees, as thinking, which tool is run.
    `on_disconnect`: whether a turn ends when its client goes away. `with_functions` names
    the profile that serves requests which bring functions of the client: the profile itself where
    its built-in tools stay beside them. A turn ends after `activity_minutes` in which the CLI said
    nothing and its processes made no progress, and after `turn_minutes` in any case; 0 is no limit.
    """

    name: str
    tools: Literal["all", "none"] | tuple[str, ...]
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    directory: str = ""
    directories: tuple[str, ...] = ()
    confine: bool = False
    settings: tuple[Source, ...]
    mcp: str = "none"
    browser: Literal["user", "on", "off"] = "off"
    system: Literal["append", "replace"]
    streaming: Streaming
    effort: Literal["", "low", "medium", "high", "xhigh", "max"] = ""
    reuse: bool = True
    activity_minutes: float = 10
    turn_minutes: float = 0
    lenient: bool = False
    show_tools: bool = False
    on_disconnect: Literal["cancel", "finish"] = "cancel"
    with_functions: str

    @property
    def has_tools(self) -> bool:
        """Whether the model can do anything but talk."""
        return self.tools not in ("none", ()) or self.mcp != "none" or self.browser != "off"

    @property
    def searches(self) -> bool:
        """Whether the model can search the web."""
        return SEARCH_TOOL not in self.deny and (self.tools == "all" or SEARCH_TOOL in self.tools)

    @property
    def resettable(self) -> bool:
        """Whether a worker may be given to another conversation: no tool can have left anything."""
        return self.reuse and not self.has_tools

    @property
    def persists(self) -> bool:
        """Whether the CLI keeps a transcript, to resume a conversation from. Only where it holds
        more than the client knows: the work of the tools."""
        return self.has_tools


AGENT = Profile(
    name="agent",
    tools="all",
    settings=("user", "project", "local"),
    mcp="user",
    browser="user",
    system="append",
    streaming="smart",
    with_functions="chat",
)
CHAT = Profile(
    name="chat",
    tools="none",
    settings=(),
    system="replace",
    streaming="live",
    with_functions="chat",
)
OPENCLAW = msgspec.structs.replace(CHAT, name="openclaw", lenient=True, with_functions="openclaw")
BUILT_IN = {profile.name: profile for profile in (AGENT, CHAT, OPENCLAW)}
DEFAULT = AGENT.name


def command_line(cli: str, profile: Profile, model: str, resume: str | None = None) -> list[str]:
    """The argv of a worker of `profile` for `model`; it holds nothing of any request.

    `model` is checked by its pattern before it gets here, the profile's values when they are read
    from the configuration; each is passed as `--option=value`, so that it can be no other option.
    `resume` is the id of the session to go on with. Raises ValueError if that is not a UUID as the
    CLI writes them, or the profile keeps no sessions.
    """
    if resume is not None and not (profile.persists and SESSION.fullmatch(resume)):
        raise ValueError("this is not a session that can be resumed")
    argv = [
        cli,
        "--print",
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--verbose",
        "--include-partial-messages",
        f"--model={model}",
        # The daemon is asked over stdio; checks are never skipped, and this works as root.
        "--permission-mode=default",
        "--permission-prompt-tool=stdio",
        f"--setting-sources={','.join(profile.settings)}",
    ]
    if profile.tools != "all":
        argv.append(f"--tools={'' if profile.tools == 'none' else ','.join(profile.tools)}")
    if profile.has_tools:
        argv.append(f"--settings={_ASK_ALWAYS}")
    else:
        argv.append("--no-session-persistence")
    if resume is not None:
        argv.append(f"--resume={resume}")
    if profile.mcp != "user":
        argv.append("--strict-mcp-config")
    if profile.mcp not in ("user", "none"):
        argv.append(f"--mcp-config={profile.mcp}")
    if profile.browser != "user":
        argv.append("--chrome" if profile.browser == "on" else "--no-chrome")
    if profile.effort:
        argv.append(f"--effort={profile.effort}")
    argv += [f"--add-dir={directory}" for directory in profile.directories]
    # Denied twice: the policy answers, and the CLI does not even offer a tool that is denied.
    for rule in profile.deny:
        if _PLAIN_RULE.fullmatch(rule):
            argv.append("--disallowedTools=" + _PATH_RULE.sub(r"\1(//\2)", rule))
    return argv


# What a worker that may get the client's functions needs in its environment:
FUNCTIONS_ENVIRONMENT = {
    # They shall be all that the model sees; 2.1.330 adds a tool of its own to search others with.
    "ENABLE_TOOL_SEARCH": "false",
    # A result with an image and more text than 25,000 tokens would lose both of their ends
    # (2.1.197 and 2.1.330); results of text alone have their limit where they are declared.
    "MAX_MCP_OUTPUT_TOKENS": "1000000",
}

# What one that reads no settings and has no tools needs in it. In safe mode what the user has made
# of their CLI is not even looked for, which saves a fourteenth of a short turn's CPU (2.1.330). A
# version that does not know the variable ignores it; an option would end its start.
BARE_ENVIRONMENT = {"CLAUDE_CODE_SAFE_MODE": "1"}


def environment(profile: Profile, base: Mapping[str, str]) -> dict[str, str]:
    """`base` with what a worker of `profile` needs in it."""
    own = profile.with_functions == profile.name
    bare = not profile.settings and not profile.has_tools
    return {**base, **(FUNCTIONS_ENVIRONMENT if own else {}), **(BARE_ENVIRONMENT if bare else {})}
