"""A CLI that is missing, logged out or cannot start: said so, and no loop of starts."""

import os
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from maxd.workers.cli import bundled_cli
from tests.end_to_end.running import DaemonProcess, LoopbackProcess

FAKE_CLI = str(Path(__file__).parents[1] / "fakes" / "fake_cli.py")


def refusal(daemon: DaemonProcess) -> openai.APIStatusError:
    with daemon.client() as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model="sonnet:chat", messages=[{"role": "user", "content": "hi"}]
        )
    return caught.value


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"MAXD_CLI_PATH": "/nonexistent/claude"}, "/nonexistent/claude"),
        ({"CLAUDE_CLI": "/nonexistent/claude"}, "CLAUDE_CLI"),
        ({"ANTHROPIC_API_KEY": ""}, "not logged in"),
        ({"CLAUDE_CLI": FAKE_CLI, "FAKE_CLI_AUTH": "logged_out"}, "not logged in"),
    ],
)
def test_no_cli_or_no_login(
    tmp_path: Path, model: LoopbackProcess, variables: dict[str, str], words: str
) -> None:
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        for _ in range(3):
            error = refusal(daemon)
            assert error.status_code == 503
            assert error.code == "backend_unavailable"
            assert words in error.message
            assert error.response.headers["retry-after"] == "30"
            assert error.response.headers["x-should-retry"] == "false"
        assert daemon.tree() == [], "nothing was started"
        assert daemon.stop() == 0
        assert [e for e in daemon.log if e["event"] == "claude CLI cannot be used"]


def run_claude(cli: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "maxd.daemon", "claude", *words],
        env=os.environ | {"CLAUDE_CLI": cli},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_cli_that_is_used_can_be_run_to_log_in() -> None:
    """Also with words that maxd would understand otherwise."""
    cli = str(bundled_cli())
    for word in ("--version", "--help"):
        done = run_claude(cli, word)
        itself = subprocess.run([cli, word], capture_output=True, text=True, check=True)
        assert (done.returncode, done.stdout) == (0, itself.stdout)
    missing = run_claude("/nonexistent/claude")
    assert missing.returncode == 69
    assert "CLAUDE_CLI names /nonexistent/claude" in missing.stderr


@pytest.mark.parametrize("step", ["start:exit=1", "ready:exit=3", "ready:signal=SIGKILL"])
def test_a_cli_that_cannot_start(tmp_path: Path, model: LoopbackProcess, step: str) -> None:
    variables = {
        "CLAUDE_CLI": FAKE_CLI,
        "FAKE_CLI_AT": step,
        "MAXD_POOL_WARM": "sonnet:chat",
    }
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        # Five failures in a row with 0.5 s, 1 s, 2 s and 4 s between them.
        for _ in range(5):
            daemon.wait_log("worker died")
        for _ in range(3):
            error = refusal(daemon)
            assert error.status_code == 503
            assert error.code == "backend_unavailable"
            assert "before it was ready" in error.message
        started = [e for e in daemon.log if e["event"] == "worker died"]
        assert len(started) <= 6, "refused requests started nothing"
        assert daemon.stop() == 0


def test_a_worker_that_dies_before_anything_was_accepted_is_replaced(
    tmp_path: Path, model: LoopbackProcess
) -> None:
    variables = {"CLAUDE_CLI": FAKE_CLI, "MAXD_POOL_WARM": "sonnet:chat"}
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        daemon.wait_log("worker ready")
        daemon.tree()
        with daemon.client() as client, pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(
                model="sonnet:chat",
                messages=[{"role": "user", "content": "<<fake at=ask:exit=1>>"}],
            )
        assert caught.value.status_code == 502
        assert caught.value.code == "worker_died"
        assert daemon.wait_log("turn")["attempts"] == 2
        with daemon.client() as client, pytest.raises(openai.InternalServerError):
            client.chat.completions.create(
                model="sonnet:chat",
                messages=[{"role": "user", "content": "<<fake at=message_start:exit=1>>"}],
            )
        assert daemon.wait_log("turn")["attempts"] == 1, "the service had accepted it"
        assert daemon.stop() == 0


def test_a_worker_that_dies_in_a_stream_is_an_error_in_it(
    tmp_path: Path, model: LoopbackProcess
) -> None:
    variables = {"CLAUDE_CLI": FAKE_CLI, "MAXD_POOL_WARM": "sonnet:chat"}
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        with daemon.client() as client:
            stream = client.chat.completions.create(
                model="sonnet:chat",
                messages=[
                    {"role": "user", "content": "<<fake tokens=9 at=token=3:signal=SIGKILL>>"}
                ],
                stream=True,
            )
            words: list[str] = []
            with pytest.raises(openai.APIError) as caught:
                words.extend(chunk.choices[0].delta.content or "" for chunk in stream)
        assert len("".join(words).split()) == 3
        assert caught.value.code == "worker_died"
        assert daemon.stop() == 0
