"""What a worker may do, decided by its profile alone."""

import msgspec
import pytest

from maxd.workers.messages import Allow, ControlBody, Deny
from maxd.workers.policy import NEEDS_A_PERSON, decide
from maxd.workers.profiles import AGENT, CHAT, Profile

INPUT = msgspec.Raw(b'{"command": "rm -rf /", "n": [1.0, null]}')


@pytest.mark.parametrize("tool", ["Bash", "Write", "WebFetch", "mcp__files__read", "Tool 2030", ""])
def test_an_agent_may_use_every_tool_as_it_asks(tool: str) -> None:
    answer = decide(AGENT, ControlBody("can_use_tool", tool, INPUT))
    assert isinstance(answer, Allow)
    assert bytes(answer.updated_input) == bytes(INPUT)


@pytest.mark.parametrize("tool", ["Bash", "Read", "mcp__files__read", ""])
def test_a_profile_without_tools_may_use_none(tool: str) -> None:
    answer = decide(CHAT, ControlBody("can_use_tool", tool, INPUT))
    assert isinstance(answer, Deny)
    assert "chat" in answer.message
    assert "rm" not in answer.message


@pytest.mark.parametrize("tool", sorted(NEEDS_A_PERSON))
@pytest.mark.parametrize("profile", [AGENT, CHAT])
def test_what_needs_a_person_is_denied_with_what_to_do_instead(tool: str, profile: Profile) -> None:
    answer = decide(profile, ControlBody("can_use_tool", tool, INPUT))
    assert isinstance(answer, Deny)
    assert "Ask in the text" in answer.message
