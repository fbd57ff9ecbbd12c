"""Turns that hang, through the whole daemon: the client and the user are told, the slot is back."""

import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive, real_cli
from tests.fakes.bot_api import BotApi

LIMIT = 3.0
TOKEN = "123456789:canary"
HOSTILE = Path(__file__).parents[1] / "fakes" / "hostile.py"
CONFIG = f"[profiles.agent]\nactivity_minutes = {LIMIT / 60}\n"
MODEL = "sonnet"


@pytest.fixture
def telegram() -> Iterator[BotApi]:
    with BotApi() as api:
        yield api


def telegram_variables(api: BotApi) -> dict[str, str]:
    return {
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "TELEGRAM_NOTIFY_ID": "42",
        "TELEGRAM_API_BASE": api.base,
    }


@pytest.fixture
def daemon(
    tmp_path: Path, model: LoopbackProcess, telegram: BotApi, request: pytest.FixtureRequest
) -> Iterator[DaemonProcess]:
    """With one worker at most, so that the next turn needs the slot of the one before."""
    home = tmp_path / "home" / ".config" / "maxd"
    home.mkdir(parents=True)
    (home / "config.toml").write_text(CONFIG)
    variables = {
        **telegram_variables(telegram),
        "MAXD_POOL_MAX_WORKERS": "1",
        "MAXD_POOL_WARM": MODEL,
        "MAXD_SERVER_HOLD_STATUS_SECONDS": "0",
        "MAXD_SERVER_HEARTBEAT_SECONDS": "1",
    }
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        yield daemon.wait_serving()


def hang(token: str) -> str:
    """A prompt whose tool leaves hostile processes and then stops itself."""
    python = shlex.quote(sys.executable)
    shapes = ("deaf", "session", "double_fork")
    hostile = [f"{python} -I -S {HOSTILE} {shape} {token} &" for shape in shapes]
    call = {"command": " ".join([*hostile, "sleep 1; kill -STOP $$"]), "description": "a test"}
    return directive(replies=[{"tool": "Bash", "input": call}, {"text": "never"}])


def ask(client: openai.OpenAI, prompt: str, *, stream: bool) -> None:
    """A turn, read to its end."""
    list(
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}], stream=stream
        )
    )


def carrying(token: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if token in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_a_hung_turn_is_ended_and_told_once(
    daemon: DaemonProcess, telegram: BotApi, stream: bool
) -> None:
    """The client itself would give up before: it is told that its request is worked on."""
    token = f"token-{uuid.uuid4().hex}"
    with daemon.client(timeout=LIMIT - 0.5) as client:
        started = time.monotonic()
        with pytest.raises(openai.APIError, match="no progress") as told:
            ask(client, hang(token), stream=stream)
        assert time.monotonic() - started > LIMIT
        assert told.value.code == "turn_timeout"
        if isinstance(told.value, openai.APIStatusError):
            assert told.value.status_code == 504
            assert told.value.response.headers["x-should-retry"] == "false"
        assert isinstance(told.value, openai.APIStatusError) is not stream
        ask(client, directive(text="Next"), stream=stream)
    assert carrying(token) == []
    post = telegram.wait()
    assert post.path == f"/bot{TOKEN}/sendMessage"
    assert post.json["chat_id"] == "42"
    assert "3 seconds" in post.json["text"]
    assert token not in post.body.decode()
    daemon.wait_log("notified", channel="telegram", kind="turn_timed_out")
    assert daemon.stop() == 0
    assert len(telegram.posts) == 1
    assert TOKEN not in str(daemon.log)


def test_a_cli_that_is_missing_is_told(
    tmp_path: Path, model: LoopbackProcess, telegram: BotApi
) -> None:
    variables = {**telegram_variables(telegram), "MAXD_CLI_PATH": str(tmp_path / "claude")}
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        assert "cannot be used" in telegram.wait().json["text"]
        assert daemon.stop() == 0
    assert len(telegram.posts) == 1


def test_starts_that_fail_and_work_again_are_told(
    tmp_path: Path, model: LoopbackProcess, telegram: BotApi
) -> None:
    cli, broken = tmp_path / "claude", tmp_path / "broken"
    cli.write_text(f'#!/bin/sh\n[ -e {broken} ] && exit 1\nexec {real_cli()} "$@"\n')
    cli.chmod(0o755)
    broken.touch()
    variables = {**telegram_variables(telegram), "MAXD_CLI_PATH": str(cli)}
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        assert "workers cannot be started" in telegram.wait(60).json["text"]
        broken.unlink()
        assert "workers can be started again" in telegram.wait(60).json["text"]
        assert daemon.stop() == 0
    assert len(telegram.posts) == 2


def notify_test(tmp_path: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **variables}
    command = [sys.executable, "-m", "maxd.daemon", "notify-test"]
    return subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )


def test_notify_test_tells_the_outcome_of_each_channel(tmp_path: Path, telegram: BotApi) -> None:
    good = f"json://127.0.0.1:{telegram.port}/"
    done = notify_test(
        tmp_path,
        **telegram_variables(telegram),
        MAXD_NOTIFY_URLS=good,
        MAXD_NOTIFY_WEBHOOK=f"{telegram.base}/hook",
        MAXD_NOTIFY_WEBHOOK_SECRET="canary",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "telegram: sent\nwebhook: sent\nurl 1 (json): sent\n"
    assert sorted(post.path for post in telegram.posts) == [
        "/",
        f"/bot{TOKEN}/sendMessage",
        "/hook",
    ]


def test_notify_test_fails_if_one_does(tmp_path: Path, telegram: BotApi) -> None:
    urls = "json://canary@127.0.0.1:9/,nosuch://canary"
    done = notify_test(tmp_path, **telegram_variables(telegram), MAXD_NOTIFY_URLS=urls)
    assert done.returncode == 1
    assert done.stdout == (
        "telegram: sent\n"
        "url 1 (json): not sent: apprise could not deliver it\n"
        "url 2 (nosuch): not sent: apprise does not understand this URL\n"
    )
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({}, 1, "there is no channel"),
        ({"MAXD_NOTIFY_URLS": "canary"}, 78, "notify.urls is not shown, but must be"),
        ({"MAXD_NOTIFY_WEBHOOK": "ftp://canary"}, 78, "notify.webhook is not shown"),
        ({"MAXD_NOTIFY_URLS_FILE": "/no/such"}, 78, "/no/such cannot be read"),
    ],
)
def test_notify_test_says_what_is_set_up_wrongly(
    tmp_path: Path, variables: dict[str, str], code: int, words: str
) -> None:
    done = notify_test(tmp_path, **variables)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "canary" not in done.stderr
