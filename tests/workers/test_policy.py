"""What a worker may do, decided by its profile alone."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from maxd.workers.messages import Allow, ControlBody, Deny
from maxd.workers.policy import COMES_LATER, NEEDS_A_PERSON, Decisions, Policy
from maxd.workers.profiles import AGENT, CHAT, Profile

INPUT = msgspec.Raw(b'{"command": "rm -rf /", "n": [1.0, null]}')
WORK = replace(AGENT, name="work", directory="/work", directories=("/more",))
LINKS = {"/work": "/real/work", "/real/work/out": "/etc", "/real/work/home": "/real/work/sub"}


def resolve(path: str) -> str:
    """A file system of links, as realpath sees it."""
    resolved = "/"
    for name in path.split("/"):
        if name == "..":
            resolved = resolved.rpartition("/")[0] or "/"
        elif name not in ("", "."):
            resolved = resolved.rstrip("/") + "/" + name
        while resolved in LINKS:
            resolved = resolve(LINKS[resolved])
    return resolved


def question(tool: str, **fields: Any) -> ControlBody:
    return ControlBody("can_use_tool", tool, msgspec.Raw(msgspec.json.encode(fields)))


def asked(profile: Profile, tool: str, **fields: Any) -> str | None:
    """The reason why it is denied, or None."""
    answer = Policy(profile, resolve=resolve, home="/home/me").decide(question(tool, **fields))
    return None if isinstance(answer, Allow) else answer.message


@pytest.mark.parametrize("tool", ["Bash", "Write", "WebFetch", "mcp__files__read", "Tool 2030", ""])
def test_an_agent_may_use_every_tool_as_it_asks(tool: str) -> None:
    answer = Policy(AGENT).decide(ControlBody("can_use_tool", tool, INPUT))
    assert isinstance(answer, Allow)
    assert bytes(answer.updated_input) == bytes(INPUT)


@pytest.mark.parametrize("tool", ["Bash", "Read", "WebFetch", ""])
def test_a_profile_without_tools_may_use_none(tool: str) -> None:
    reason = asked(CHAT, tool, command="rm -rf /")
    assert reason is not None
    assert "chat" in reason
    assert "rm" not in reason


def test_functions_of_the_client_may_be_called_whatever_the_tools_are() -> None:
    only = replace(WORK, allow=("Read",), tools=("Read",))
    for profile in (CHAT, AGENT, only):
        assert asked(profile, "mcp__client__lookup") is None
    assert asked(replace(only, deny=("mcp__client__lookup",)), "mcp__client__lookup") is not None


@pytest.mark.parametrize("tool", sorted(NEEDS_A_PERSON | COMES_LATER))
@pytest.mark.parametrize("profile", [AGENT, CHAT, replace(AGENT, allow=("AskUserQuestion",))])
def test_what_nobody_would_answer_or_hear_is_denied(tool: str, profile: Profile) -> None:
    assert asked(profile, tool) is not None


def test_what_is_denied_stays_so_whatever_is_allowed() -> None:
    profile = replace(WORK, allow=("Bash(git *)",), deny=("Bash(git push *)", "mcp__mail"))
    assert asked(profile, "Bash", command="git status") is None
    assert "Bash(git push *)" in (asked(profile, "Bash", command="git push -f") or "")
    assert asked(profile, "Bash", command="npm test") is not None
    assert asked(profile, "Read", file_path="/work/a") is not None
    assert asked(profile, "mcp__mail__send") is not None
    assert asked(replace(profile, allow=()), "mcp__mailbox__send") is None


def test_the_reason_holds_nothing_of_the_input() -> None:
    profile = replace(WORK, allow=("Bash(git *)",), deny=("Bash(rm *)",), confine=True)
    for fields in ({"command": "rm CANARY"}, {"command": "CANARY"}, {"command": "git; CANARY"}):
        assert "CANARY" not in (asked(profile, "Bash", **fields) or "CANARY")
    assert "CANARY" not in (asked(replace(profile, allow=()), "Read", file_path="/CANARY") or "C")


@pytest.mark.parametrize(
    "path",
    [
        "/work/a",
        "/work/sub/../a",
        "a",
        "/more",
        "/more/deep/er",
        "/real/work/a",
        "/work/home/x",
    ],
)
@pytest.mark.parametrize("tool", ["Read", "Write", "Edit", "Grep"])
def test_a_confined_profile_reaches_its_directories(tool: str, path: str) -> None:
    field = "path" if tool == "Grep" else "file_path"
    assert asked(replace(WORK, confine=True), tool, **{field: path}) is None


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/workshop/a",
        "/work/../etc/passwd",
        "../etc/passwd",
        "/work/out/passwd",
        "/work/out/../a",
        "/work/home/../../../etc",
        "~/.ssh/id_rsa",
        "/work/a\0",
        "/",
        "",
        7,
    ],
)
@pytest.mark.parametrize("tool", ["Read", "Write", "NotebookEdit"])
def test_a_confined_profile_reaches_nothing_else(tool: str, path: object) -> None:
    field = "notebook_path" if tool == "NotebookEdit" else "file_path"
    reason = asked(replace(WORK, confine=True), tool, **{field: path})
    if path == "":
        assert reason is None, "the working directory itself"
    else:
        assert reason is not None
        assert "/work, /more" in reason


def test_a_pattern_leads_a_confined_search_nowhere_else() -> None:
    confined = replace(WORK, confine=True)
    assert asked(confined, "Glob", pattern="**/*.py") is None
    assert asked(confined, "Glob", pattern="/etc/*") is not None
    assert asked(confined, "Glob", pattern="../*/x") is not None
    assert asked(confined, "Glob", pattern="~/.ssh/*", path="/work") is not None


@pytest.mark.parametrize("tool", ["Bash", "PowerShell"])
def test_a_shell_in_a_confined_profile_needs_a_rule(tool: str) -> None:
    confined = replace(WORK, confine=True)
    assert "confined" in (asked(confined, tool, command="ls") or "")
    assert asked(replace(confined, allow=(f"{tool}(ls *)",)), tool, command="ls -l") is None


def test_an_input_that_is_no_object_is_denied() -> None:
    for raw in (b"[]", b"null", b"{", b"\xff", b"[" * 9999):
        answer = Policy(AGENT).decide(ControlBody("can_use_tool", "Bash", msgspec.Raw(raw)))
        assert isinstance(answer, Deny)


def test_decisions_are_counted_by_tool_and_bounded() -> None:
    decisions = Decisions()
    policy = Policy(replace(AGENT, deny=("Bash(rm *)",)), decisions)
    for command in ("ls", "rm x", "ls"):
        policy.decide(question("Bash", command=command))
    policy.decide(question("Read", file_path="/x"))
    counts = decisions.by_tool()
    assert (counts["Bash"].allowed, counts["Bash"].denied) == (2, 1)
    assert list(counts) == ["Bash", "Read"]
    for number in range(1000):
        policy.decide(question(f"mcp__x__{number}"))
    assert len(decisions.by_tool()) < 300
    assert sum(count.allowed for count in decisions.by_tool().values()) == 1003


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=12), st.text(max_size=30)))
def test_any_question_is_answered(tool: str, fields: dict[str, str]) -> None:
    profile = replace(
        WORK, allow=("Bash(a *)", "Read(/x/**)"), deny=("WebFetch(domain:x.y)",), confine=True
    )
    policy = Policy(profile, resolve=resolve, home="/home/me")
    raw = msgspec.Raw(msgspec.json.encode(fields))
    for each in (tool, "Bash", "Read", "WebFetch", "Glob"):
        policy.decide(ControlBody("can_use_tool", each, raw))
