"""Profiles: what is fixed when a worker's process starts, and the command line it makes."""

from typing import Literal

from msgspec import Struct


class Profile(Struct, frozen=True, kw_only=True):
    """A named bundle of what is fixed when a process starts.

    `tools`: all of the CLI's built-in tools, or none. `system`: whether the client's system
    message replaces the CLI's own prompt or is appended to it. `settings`: whether the user's
    own CLI settings, memory and MCP servers are read. `streaming`: `live` sends each token of
    text as it comes, `smart` only the text of the round that called no tool.
    """

    name: str
    tools: Literal["all", "none"]
    system: Literal["append", "replace"]
    settings: Literal["user", "none"]
    streaming: Literal["live", "smart"]


AGENT = Profile(name="agent", tools="all", system="append", settings="user", streaming="smart")
CHAT = Profile(name="chat", tools="none", system="replace", settings="none", streaming="live")
BUILT_IN = {profile.name: profile for profile in (AGENT, CHAT)}
DEFAULT = AGENT.name


def command_line(cli: str, profile: Profile, model: str) -> list[str]:
    """The argv of a worker of `profile` for `model`; it holds nothing of any request.

    `model` is checked by its pattern before it gets here and is passed as `--model=…`, so that
    it can be no other option.
    """
    argv = [
        cli,
        "--print",
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--verbose",
        "--include-partial-messages",
        "--no-session-persistence",
        f"--model={model}",
        # The daemon is asked over stdio; checks are never skipped, and this works as root.
        "--permission-mode=default",
        "--permission-prompt-tool=stdio",
    ]
    if profile.tools == "none":
        argv += ["--tools="]
    if profile.settings == "none":
        argv += ["--setting-sources=", "--strict-mcp-config"]
    return argv
