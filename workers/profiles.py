"""Profiles: what is fixed when a worker's process starts, and the command line it makes."""

import re
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

# Anything else the CLI would take for the title of a session or the name of a file.
SESSION = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Profile(Struct, frozen=True, kw_only=True):
    """A named bundle of what is fixed when a process starts.

    `tools`: all of the CLI's built-in tools, or none. `system`: whether the client's system
    message replaces the CLI's own prompt or is appended to it. `settings`: whether the user's
    own CLI settings, memory and MCP servers are read. `streaming`: `live` sends each token of
    text as it comes, `smart` only the text of the round that called no tool. `with_functions` names
    the profile that serves requests which bring functions of the client: the profile itself where
    its built-in tools stay beside them.
    """

    name: str
    tools: Literal["all", "none"]
    system: Literal["append", "replace"]
    settings: Literal["user", "none"]
    streaming: Literal["live", "smart"]
    with_functions: str

    @property
    def persists(self) -> bool:
        """Whether the CLI keeps a transcript, to resume a conversation from. Only where it holds
        more than the client knows: the work of the tools."""
        return self.tools == "all"


AGENT = Profile(
    name="agent",
    tools="all",
    system="append",
    settings="user",
    streaming="smart",
    with_functions="chat",
)
CHAT = Profile(
    name="chat",
    tools="none",
    system="replace",
    settings="none",
    streaming="live",
    with_functions="chat",
)
BUILT_IN = {profile.name: profile for profile in (AGENT, CHAT)}
DEFAULT = AGENT.name


def command_line(cli: str, profile: Profile, model: str, resume: str | None = None) -> list[str]:
    """The argv of a worker of `profile` for `model`; it holds nothing of any request.

    `model` is checked by its pattern before it gets here and is passed as `--model=…`, so that
    it can be no other option. `resume` is the id of the session to go on with. Raises ValueError
    if that is not a UUID as the CLI writes them, or the profile keeps no sessions.
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
    ]
    if profile.tools == "none":
        argv += ["--tools="]
    if not profile.persists:
        argv += ["--no-session-persistence"]
    if resume is not None:
        argv += [f"--resume={resume}"]
    if profile.settings == "none":
        argv += ["--setting-sources=", "--strict-mcp-config"]
    return argv


# What a worker without built-in tools needs in its environment, for the client's functions:
FUNCTIONS_ENVIRONMENT = {
    # They shall be all that the model sees; 2.1.330 adds a tool of its own to search others with.
    "ENABLE_TOOL_SEARCH": "false",
    # A result with an image and more text than 25,000 tokens would lose both of their ends
    # (2.1.197 and 2.1.330); results of text alone have their limit where they are declared.
    "MAX_MCP_OUTPUT_TOKENS": "1000000",
}


def environment(profile: Profile, base: Mapping[str, str]) -> dict[str, str]:
    """`base` with what a worker of `profile` needs in it."""
    return {**base, **FUNCTIONS_ENVIRONMENT} if profile.tools == "none" else {**base}
