"""Finding the CLI and the two short calls that ask it something."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import trio
from trio.testing import MockClock

from maxd.workers.cli import (
    ANSWER_SECONDS,
    Login,
    bundled_cli,
    cli_version,
    find_cli,
    login_state,
    parse_auth_status,
)
from maxd.workers.faults import BackendUnavailable


def program(path: Path, script: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def nothing() -> None:
    return None


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The places outside the home directory are this machine's own.
    monkeypatch.setattr("maxd.workers.cli._OF_THE_SYSTEM", ())
    return tmp_path / "home"


def test_the_order_of_the_search(home: Path, tmp_path: Path) -> None:
    bundled = program(tmp_path / "sdk/claude")
    environ = {"HOME": str(home), "PATH": "/nonexistent"}
    assert find_cli("", environ, bundled=lambda: bundled) == bundled

    older = program(home / ".nvm/versions/node/v9.1.0/bin/claude")
    assert find_cli("", environ, bundled=lambda: bundled) == older
    newer = program(home / ".nvm/versions/node/v22.1.0/bin/claude")
    assert find_cli("", environ, bundled=lambda: bundled) == newer
    local = program(home / ".claude/local/claude")
    assert find_cli("", environ, bundled=lambda: bundled) == local
    native = program(home / ".local/bin/claude")
    assert find_cli("", environ, bundled=lambda: bundled) == native

    on_path = program(tmp_path / "bin/claude")
    environ["PATH"] = f"relative:{tmp_path / 'bin'}"
    assert find_cli("", environ, bundled=lambda: bundled) == on_path

    by_variable = program(tmp_path / "variable")
    environ["CLAUDE_CLI"] = str(by_variable)
    assert find_cli("", environ, bundled=lambda: bundled) == by_variable
    configured = program(home / "configured")
    assert find_cli("~/configured", environ, bundled=lambda: bundled) == configured


def test_a_link_is_not_resolved(home: Path, tmp_path: Path) -> None:
    program(tmp_path / "versions/1/claude")
    link = home / ".local/bin/claude"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "versions/1/claude")
    assert find_cli("", {"HOME": str(home)}, bundled=nothing) == link


@pytest.mark.parametrize("source", ["setting", "variable"])
def test_a_wrong_explicit_path_is_an_error_without_fallback(
    home: Path, tmp_path: Path, source: str
) -> None:
    program(home / ".local/bin/claude")
    no_program = tmp_path / "text"
    no_program.write_text("x")
    for wrong in (tmp_path / "none", tmp_path, no_program, Path("relative/claude")):
        configured, variable = (str(wrong), "") if source == "setting" else ("", str(wrong))
        with pytest.raises(BackendUnavailable, match=r"cli\.path|CLAUDE_CLI"):
            find_cli(configured, {"HOME": str(home), "CLAUDE_CLI": variable})


def test_the_message_says_where_it_looked_and_what_to_do(home: Path) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        find_cli("", {"HOME": str(home)}, bundled=nothing)
    assert f"{home}/.local/bin/claude" in caught.value.message
    assert "install.sh" in caught.value.message
    assert caught.value.status == 503


def test_the_current_directory_is_not_searched(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "claude")
    monkeypatch.chdir(tmp_path)
    for path in ("", ":", ".", "./"):
        with pytest.raises(BackendUnavailable):
            find_cli("", {"HOME": str(home), "PATH": path}, bundled=nothing)


LOGGED_IN = b"""{"loggedIn": true, "authMethod": "claude.ai", "apiProvider": "firstParty",
 "loginExpiresAt": "2030-01-01T00:00:00Z", "apiKeySource": "none", "new": [1]}"""


@pytest.mark.parametrize(
    ("answer", "login"),
    [
        (
            LOGGED_IN,
            Login(
                state="logged_in",
                method="claude.ai",
                expires_at=1893456000.0,
                api_key_source="none",
            ),
        ),
        (b'{"loggedIn":false,"authMethod":"none"}', Login(state="logged_out", method="none")),
        (
            b'{"loggedIn":true,"loginExpiresAt":1893456000000}',
            Login(state="logged_in", expires_at=1893456000.0),
        ),
        (
            b'{"loggedIn":true,"loginExpiresAt":1893456000}',
            Login(state="logged_in", expires_at=1893456000.0),
        ),
        (
            b'{"loggedIn":true,"loginExpiresAt":"soon","authMethod":[1]}',
            Login(state="logged_in"),
        ),
        (b'{"loggedIn":"yes"}', Login(state="unknown")),
        (b"{}", Login(state="unknown")),
        (b"error: unknown command 'auth'", Login(state="unknown")),
        (b"", Login(state="unknown")),
        (b"\xff", Login(state="unknown")),
        (b'{"loggedIn":true,"x":' + b"[" * 100_000, Login(state="unknown")),
    ],
)
def test_the_login_is_read_leniently(answer: bytes, login: Login) -> None:
    assert parse_auth_status(answer) == login


async def test_the_exit_code_of_a_logged_out_cli_is_no_failure(tmp_path: Path) -> None:
    cli = program(tmp_path / "claude", """echo '{"loggedIn":false}'; exit 1""")
    assert (await login_state(cli, {})).state == "logged_out"


async def test_the_call_is_the_documented_one_in_the_given_environment(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    cli = program(tmp_path / "claude", f'echo "$* $A $DISABLE_AUTOUPDATER $PWD $HOME" >{seen}')
    await login_state(cli, {"A": "b", "PWD": "/", "HOME": "h"})
    assert await trio.Path(seen).read_text() == "auth status --json b 1 / h\n"


@pytest.mark.parametrize("script", ["exit 1", "echo hello", "cat", "echo 2.1", "kill -9 $$"])
async def test_what_tells_no_version_is_not_the_cli(tmp_path: Path, script: str) -> None:
    with pytest.raises(BackendUnavailable, match="does not tell its version"):
        await cli_version(program(tmp_path / "claude", script), {"PATH": os.environ["PATH"]})


async def test_what_cannot_be_started_is_no_crash(tmp_path: Path) -> None:
    broken = program(tmp_path / "claude")
    broken.write_bytes(b"\x7fELF garbage")
    with pytest.raises(BackendUnavailable):
        await cli_version(broken, {})
    assert await login_state(tmp_path / "none", {}) == Login(state="unknown")


async def test_what_prints_for_ever_is_cut(tmp_path: Path) -> None:
    cli = program(tmp_path / "claude", "while :; do echo 12345678901234567890; done")
    assert await login_state(cli, {}) == Login(state="unknown")


HANGS = """trap '' TERM HUP INT
sh -c "trap '' TERM HUP INT; while :; do sleep 1000; done" &
echo $$ $! >{pids}
echo '{{"loggedIn":true}}'
while :; do sleep 1000; done
"""
LEAVES = """sleep 1000 >/dev/null &
echo $! >{pids}
echo '{{"loggedIn":true}}'
"""


@pytest.fixture
async def pids(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[list[int]]]]:
    """Reads the process ids that a program has written to the FIFO `pids`, once it has."""
    os.mkfifo(tmp_path / "pids")
    # Open for writing too, so that the program's own opening never blocks.
    fd = os.open(tmp_path / "pids", os.O_RDWR | os.O_NONBLOCK)
    async with trio.lowlevel.FdStream(fd) as fifo:

        async def read() -> list[int]:
            return [int(word) for word in (await fifo.receive_some()).split()]

        yield read


def assert_gone(pids: list[int]) -> None:
    def alive(pid: int) -> bool:
        try:
            # What was orphaned is reaped by init, where there is one that does.
            state: str = psutil.Process(pid).status()
        except psutil.NoSuchProcess:
            return False
        return state != psutil.STATUS_ZOMBIE

    while any(map(alive, pids)):
        pass  # bounded by pytest's own time-out: a SIGKILL sent is not yet a process gone


async def test_a_call_over_its_deadline_leaves_nothing(
    tmp_path: Path, pids: Callable[[], Awaitable[list[int]]], mock_clock: MockClock
) -> None:
    cli = program(tmp_path / "claude", HANGS.format(pids=tmp_path / "pids"))
    logins = []

    async def ask() -> None:
        logins.append(await login_state(cli, {"PATH": os.environ["PATH"]}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        started = await pids()
        mock_clock.jump(ANSWER_SECONDS)
    assert logins == [Login(state="unknown")]
    assert len(started) == 2
    assert_gone(started)


async def test_a_cancelled_call_leaves_nothing(
    tmp_path: Path, pids: Callable[[], Awaitable[list[int]]]
) -> None:
    cli = program(tmp_path / "claude", HANGS.format(pids=tmp_path / "pids"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(login_state, cli, {"PATH": os.environ["PATH"]})
        started = await pids()
        nursery.cancel_scope.cancel()
    assert len(started) == 2
    assert_gone(started)


async def test_what_a_good_call_leaves_behind_is_killed(
    tmp_path: Path, pids: Callable[[], Awaitable[list[int]]]
) -> None:
    cli = program(tmp_path / "claude", LEAVES.format(pids=tmp_path / "pids"))
    assert (await login_state(cli, {"PATH": os.environ["PATH"]})).state == "logged_in"
    assert_gone(await pids())


async def test_the_real_cli_answers(tmp_path: Path) -> None:
    cli = bundled_cli()
    if cli is None or not await trio.Path(cli).exists():
        pytest.skip("claude-agent-sdk is not installed")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    told = await trio.run_process([cli, "--version"], capture_stdout=True, env=env)
    assert await cli_version(cli, env) == told.stdout.decode().split()[0]
    assert (await login_state(cli, env)).state == "logged_out"
    with_key = await login_state(cli, {**env, "ANTHROPIC_API_KEY": "x"})
    assert with_key.state == "logged_in"
    assert with_key.api_key_source == "ANTHROPIC_API_KEY"
    token = await login_state(cli, {**env, "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-x"})
    assert (token.state, token.method) == ("logged_in", "oauth_token")
    assert "sk-ant" not in json.dumps([token.method, token.api_key_source])
