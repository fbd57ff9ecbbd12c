"""Which calls a permission rule matches."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxd.workers.rules import BadRule, Rules, denied_command, is_simple, parse_rule


def rules(*texts: str, directory: str = "/work") -> Rules:
    return Rules(
        tuple(map(parse_rule, texts)), directory=directory, home="/home/me", resolve=lambda p: p
    )


def allows(rule: str, tool: str, **given: object) -> bool:
    return rules(rule).allows(tool, given) is not None


def denies(rule: str, tool: str, **given: object) -> bool:
    return rules(rule).denies(tool, given) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bash(",
        "Bash()",
        "Bash git",
        "(git)",
        "Ba sh",
        "Bash(a)b",
        "Bash(a\nb)",
        "*",
        "Ba*",
        "WebSearch(x)",
        "WebFetch(example.com)",
        "mcp__a__b(x)",
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(BadRule):
        parse_rule(text)


@pytest.mark.parametrize(
    ("rule", "tool", "matches"),
    [
        ("Bash", "Bash", True),
        ("Bash", "Write", False),
        ("Bash(*)", "Bash", True),
        ("mcp__git", "mcp__git__log", True),
        ("mcp__git", "mcp__github__log", False),
        ("mcp__git__*", "mcp__git__log", True),
        ("mcp__*", "mcp__git__log", True),
        ("mcp__git__log", "mcp__git__log", True),
        ("mcp__git__log", "mcp__git__push", False),
        ("Task", "Agent", True),
        ("Agent", "Task", True),
        ("Edit", "Write", False),
    ],
)
def test_tools(rule: str, tool: str, matches: bool) -> None:
    assert allows(rule, tool, command="x") is matches
    assert denies(rule, tool, command="x") is matches


@pytest.mark.parametrize(
    ("rule", "command"),
    [
        ("git *", "git status"),
        ("git *", "git"),
        ("git:*", "git log -p"),
        ("git *", "git commit -m 'a; b && $(c) `d`'"),
        ("git *", 'git commit -m "a; b | c > d"'),
        ("git *", "git add a\\;b"),
        ("git *", "git log --format=%H$X"),
        ("git * --stat", "git log --stat"),
        ("npm run test*", "npm run tests"),
        ("npm test", "npm test"),
        ("a && b", "a && b"),
    ],
)
def test_commands_that_a_rule_allows(rule: str, command: str) -> None:
    assert allows(f"Bash({rule})", "Bash", command=command)


@pytest.mark.parametrize(
    "command",
    [
        "git status; rm -rf x",
        "git status;rm -rf x",
        "git status && rm x",
        "git status || rm x",
        "git status | sh",
        "git status & rm x",
        "git status\nrm x",
        "git status\r\nrm x",
        "git `rm x`",
        "git $(rm x)",
        "git ${x@P}",
        "git $[1]",
        'git "$(rm x)"',
        'git "`rm x`"',
        "git <(rm x)",
        "git log > ~/.bashrc",
        "git log < x",
        "git 'a' ; rm x",
        "git $'\\'' ; rm '",
        "git 'open",
        'git "open',
        "git \\",
        "git \\\nrm x",
        "git a\0b",
        "(git status)",
        "gitx",
        "GIT status",
        "LD_PRELOAD=x git status",
        "env git status",
        " git status",
        "",
        "rm x # git",
    ],
)
def test_commands_that_a_prefix_does_not_allow(command: str) -> None:
    assert not allows("Bash(git *)", "Bash", command=command)
    assert not allows("Bash(git:*)", "Bash", command=command)


@pytest.mark.parametrize(
    "command",
    [
        "rm x",
        "rm",
        "ls; rm x",
        "ls && rm x",
        "ls\nrm x",
        "echo $(rm x)",
        "echo `rm x`",
        "(rm x)",
        "{ rm x; }",
        "! rm x",
        "A=1 B=2 rm x",
        "sudo rm x",
        "sudo -n env A=1 rm x",
        "/bin/rm x",
        "r\\m x",
        "'rm' x",
        '"r"m x',
        "  rm x",
        "true|xargs rm x",
    ],
)
def test_a_rule_that_denies_finds_hidden_commands(command: str) -> None:
    assert denies("Bash(rm *)", "Bash", command=command)
    assert denied_command("rm:*", command)


def test_a_rule_that_denies_a_shell_denies_every_shell() -> None:
    assert denies("Bash", "Monitor", command="ls")
    assert denies("Bash(rm *)", "PowerShell", command="rm x")
    assert not allows("Bash", "Monitor", command="ls")


@pytest.mark.parametrize("command", ["rmdir x", "ls rm", "echo arm x"])
def test_a_rule_that_denies_leaves_other_commands(command: str) -> None:
    assert not denies("Bash(rm *)", "Bash", command=command)


def test_an_input_of_another_form_is_not_allowed_and_is_denied() -> None:
    for tool, rule in (
        ("Bash", "Bash(a *)"),
        ("Read", "Read(/a/**)"),
        ("WebFetch", "WebFetch(domain:a.b)"),
        ("Skill", "Skill(a)"),
    ):
        given = {"command": 1, "file_path": 1, "url": 1, "skill": 1}
        assert not allows(rule, tool, **given)
        assert denies(rule, tool, **given)


# What the shell does is told by the shell.

_PIECES = st.lists(st.sampled_from([*" ;&|\n`$(){}'\"\\<>=!#*~[]\t", "a", "$'"]), max_size=5).map(
    "".join
)
_HITS = st.sampled_from(["touch hit", ";touch hit", "$(touch hit)", "`touch hit`", "\ntouch hit"])


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which nothing but `git`, which does nothing, and `touch` can be run."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "bin").mkdir()
    (folder / "bin" / "git").symlink_to("/bin/true")
    (folder / "bin" / "touch").symlink_to("/usr/bin/touch")
    return folder


def test_bash_runs_nothing_else_in_what_a_prefix_allows(shell: Path) -> None:
    """Random commands, biased to be allowed, are run; nothing but git may have been."""
    hits = 0

    @settings(max_examples=600, deadline=None)
    @given(_PIECES, _HITS, _PIECES)
    def try_one(before: str, hit: str, after: str) -> None:
        nonlocal hits
        command = f"git {before}{hit}{after}"
        if not allows("Bash(git *)", "Bash", command=command):
            return
        hits += 1
        subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=shell,
            env={"PATH": str(shell / "bin")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert sorted(path.name for path in shell.iterdir()) == ["bin"], command

    try_one()
    assert hits, "nothing was tried"


@given(st.text(max_size=40))
def test_quoting_makes_any_text_simple(text: str) -> None:
    printable = "".join(char for char in text if char >= " ")
    assert is_simple("git '" + printable.replace("'", "'\\''") + "'")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/etc/**", "/etc/passwd", True),
        ("/etc/**", "/etc/a/b", True),
        ("/etc/**", "/etc", True),
        ("//etc/**", "/etc/passwd", True),
        ("/etc", "/etc/a/b", True),
        ("/etc/", "/etc/a", True),
        ("/etc", "/etcetera", False),
        ("/etc/*.conf", "/etc/a.conf", True),
        ("/etc/*.conf", "/etc/a/b.conf", False),
        ("/**/.env", "/work/a/.env", True),
        ("**/.env", "/work/.env", True),
        ("**/.env", "/other/.env", False),
        ("./src/**", "/work/src/a.py", True),
        ("src", "/work/src/a.py", True),
        ("~/.ssh/**", "/home/me/.ssh/id", True),
        ("~/.ssh/**", "/home/you/.ssh/id", False),
        ("/a?c/x", "/abc/x", True),
        ("/a.c", "/abc", False),
        ("/**", "/anything", True),
        ("/", "/anything", True),
    ],
)
def test_paths(pattern: str, path: str, matches: bool) -> None:
    assert allows(f"Read({pattern})", "Read", file_path=path) is matches
    assert denies(f"Read({pattern})", "Read", file_path=path) is matches


def test_rules_for_reading_and_changing_files_hold_for_all_such_tools() -> None:
    for tool in ("Write", "Edit", "NotebookEdit"):
        assert allows("Edit(/a/**)", tool, file_path="/a/b")
        assert not allows("Read(/a/**)", tool, file_path="/a/b")
        assert denies("Read(/a/**)", tool, file_path="/a/b")
    assert allows("Read(/a/**)", "Grep", pattern="x", path="/a/b")
    assert not allows("Edit(/a/**)", "Read", file_path="/a/b")


def test_a_link_is_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "alias").symlink_to(tmp_path / "open")
    real = Rules((parse_rule(f"Read({tmp_path}/open/**)"),), directory="/", home="/")
    assert real.allows("Read", {"file_path": f"{tmp_path}/open/a"})
    assert not real.allows("Read", {"file_path": f"{tmp_path}/open/link/a"})
    assert not real.allows("Read", {"file_path": f"{tmp_path}/open/../secret/a"})
    assert not real.allows("Read", {"file_path": f"{tmp_path}/open/link/../a"})
    alias = Rules((parse_rule(f"Read({tmp_path}/alias/**)"),), directory="/", home="/")
    assert alias.allows("Read", {"file_path": f"{tmp_path}/alias/a"})
    denied = Rules((parse_rule(f"Read({tmp_path}/secret/**)"),), directory="/", home="/")
    assert denied.denies("Read", {"file_path": f"{tmp_path}/open/link/a"})
    assert denied.denies("Edit", {"file_path": f"{tmp_path}/alias/link/a"})


@pytest.mark.parametrize(
    ("pattern", "url", "allowed", "denied"),
    [
        ("example.com", "https://example.com/a", True, True),
        ("example.com", "HTTP://EXAMPLE.COM:8080", True, True),
        ("example.com", "https://example.com.", True, True),
        ("example.com", "https://sub.example.com", False, True),
        ("*.example.com", "https://sub.example.com", True, True),
        ("example.com", "https://notexample.com", False, False),
        ("example.com", "https://example.com@evil.org", False, False),
        ("example.com", "https://evil.org/example.com", False, False),
        ("example.com", "example.com/a", True, True),
        ("example.com", "https://[", False, True),
    ],
)
def test_hosts(pattern: str, url: str, allowed: bool, denied: bool) -> None:
    assert allows(f"WebFetch(domain:{pattern})", "WebFetch", url=url) is allowed
    assert denies(f"WebFetch(domain:{pattern})", "WebFetch", url=url) is denied


def test_agents_and_skills_by_name() -> None:
    assert allows("Agent(Explore)", "Task", subagent_type="Explore")
    assert not allows("Agent(Explore)", "Agent", subagent_type="general-purpose")
    assert allows("Skill(review*)", "Skill", skill="review-code")
