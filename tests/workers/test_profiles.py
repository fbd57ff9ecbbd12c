"""What a profile makes of the command line."""

from typing import Any

import pytest
from msgspec.structs import replace

from maxd.workers.profiles import (
    AGENT,
    BUILT_IN,
    CHAT,
    DEFAULT,
    OPENCLAW,
    Profile,
    command_line,
    environment,
)

WITH_MCP = replace(CHAT, name="servers", mcp="/m.json")


@pytest.mark.parametrize("profile", BUILT_IN.values(), ids=BUILT_IN)
def test_every_worker_speaks_json_both_ways_and_asks_over_stdio(profile: Profile) -> None:
    argv = command_line("/usr/bin/claude", profile, "sonnet")
    assert argv[0] == "/usr/bin/claude"
    assert {
        "--print",
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--verbose",
        "--include-partial-messages",
        "--permission-mode=default",
        "--permission-prompt-tool=stdio",
        "--model=sonnet",
    } <= set(argv)


@pytest.mark.parametrize("profile", BUILT_IN.values(), ids=BUILT_IN)
def test_checks_are_never_skipped(profile: Profile) -> None:
    argv = " ".join(command_line("claude", profile, "sonnet"))
    assert "dangerously" not in argv
    assert "bypass" not in argv


def test_only_what_holds_tool_work_leaves_a_transcript() -> None:
    assert "--no-session-persistence" in command_line("claude", CHAT, "sonnet")
    assert "--no-session-persistence" not in command_line("claude", AGENT, "sonnet")


def test_chat_has_no_tools_and_nothing_of_the_users_own() -> None:
    argv = command_line("claude", CHAT, "sonnet")
    assert {"--tools=", "--setting-sources=", "--strict-mcp-config"} <= set(argv)


def test_agent_is_as_the_user_has_set_it_up() -> None:
    argv = command_line("claude", AGENT, "sonnet")
    assert "--setting-sources=user,project,local" in argv
    assert not [word for word in argv if word.startswith(("--tools", "--strict", "--no-chrome"))]


@pytest.mark.parametrize("profile", [AGENT, replace(CHAT, tools=("Read",)), WITH_MCP])
def test_the_cli_asks_for_every_tool(profile: Profile) -> None:
    argv = command_line("claude", profile, "sonnet")
    assert '--settings={"permissions":{"ask":["*"]}}' in argv
    assert profile.persists
    assert not profile.resettable


def test_everything_of_a_profile_is_on_the_command_line() -> None:
    profile = replace(
        WITH_MCP,
        tools=("Read", "Bash"),
        settings=("project",),
        browser="on",
        effort="low",
        directories=("/a b", "/c"),
        deny=("WebFetch", "Bash(git *)", "Read(/etc/**)", "Edit(~/x)", "Bash(a, b)", 'Bash("x")'),
    )
    assert command_line("claude", profile, "sonnet")[9:] == [
        "--setting-sources=project",
        "--tools=Read,Bash",
        '--settings={"permissions":{"ask":["*"]}}',
        "--strict-mcp-config",
        "--mcp-config=/m.json",
        "--chrome",
        "--effort=low",
        "--add-dir=/a b",
        "--add-dir=/c",
        "--disallowedTools=WebFetch",
        "--disallowedTools=Bash(git *)",
        "--disallowedTools=Read(//etc/**)",
        "--disallowedTools=Edit(~/x)",
    ]


@pytest.mark.parametrize(
    ("changed", "searches"),
    [
        ({}, True),
        ({"deny": ("WebSearch",)}, False),
        ({"tools": ("Read", "WebSearch")}, True),
        ({"tools": ("Read",)}, False),
        ({"tools": "none"}, False),
    ],
)
def test_which_profiles_search_the_web(changed: dict[str, Any], searches: bool) -> None:
    assert replace(AGENT, **changed).searches is searches


@pytest.mark.parametrize("profile", BUILT_IN.values(), ids=BUILT_IN)
@pytest.mark.parametrize("model", ["opus", "sonnet[1m]", "us.anthropic.claude-x-v1:0", "--help"])
def test_every_word_is_one_option_whatever_the_model_is(profile: Profile, model: str) -> None:
    argv = command_line("claude", profile, model)
    assert f"--model={model}" in argv
    assert model not in argv
    assert all(word.startswith("--") for word in argv[1:])


def test_the_default_is_a_profile_and_names_are_their_own() -> None:
    assert DEFAULT in BUILT_IN
    assert all(profile.name == name for name, profile in BUILT_IN.items())


def test_only_a_worker_without_settings_and_tools_is_started_in_safe_mode() -> None:
    """Anywhere else it would take away what the user has set up for it."""
    for profile in (CHAT, OPENCLAW):
        assert environment(profile, {"PATH": "x"})["CLAUDE_CODE_SAFE_MODE"] == "1"
    with_settings = replace(CHAT, settings=("user",))
    with_servers = replace(CHAT, mcp="user")
    with_tools = replace(CHAT, tools=("Read",))
    for profile in (AGENT, with_settings, with_servers, with_tools):
        assert "CLAUDE_CODE_SAFE_MODE" not in environment(profile, {"PATH": "x"})
