"""A conversation with tool work comes back from the CLI's session on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import psutil
import pytest

from tests.end_to_end.chatting import Chat
from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

AGENT = "sonnet"
VARIABLES = {"MAXD_POOL_WARM": AGENT}


@pytest.fixture
def daemon(tmp_path: Path, model: LoopbackProcess) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path, model.base_url, VARIABLES) as daemon:
        yield daemon.wait_serving()


def work(chat: Chat, text: str) -> None:
    """One turn in which the model uses a tool, whose result only the CLI's session holds."""
    prompt = directive(
        replies=[
            {"text": "Let me see.", "tool": "Bash", "input": {"command": "echo tool-canary"}},
            {"text": "Seen."},
        ]
    )
    chat.messages.append({"role": "user", "content": f"{text} {prompt}"})
    completion = chat._client.chat.completions.create(model=AGENT, messages=chat.messages)
    assert completion.choices[0].message.content == "Seen."
    chat.messages.append({"role": "assistant", "content": "Seen."})


def kill_worker(daemon: DaemonProcess) -> None:
    worker = next(e["worker"] for e in reversed(daemon.log) if e["event"] == "turn")
    (ready,) = [e for e in daemon.log if e.get("worker") == worker and "pid" in e]
    psutil.Process(ready["pid"]).kill()
    daemon.wait_log("worker died")


def transcript(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "home").rglob("projects/*/*.jsonl")
    return file


def test_a_worker_that_was_lost_between_turns(
    daemon: DaemonProcess, model: LoopbackProcess
) -> None:
    with daemon.client() as client:
        chat = Chat(client, model=AGENT)
        work(chat, "look")
        daemon.wait_log("session confirmed")
        kill_worker(daemon)
        assert chat.say("again", "done") == "done"
    assert "tool-canary" in str(model.requests()[-1]["body"]["messages"])
    assert daemon.wait_log("turn")["continued"] is True
    assert daemon.stop() == 0


def test_a_daemon_that_was_restarted(
    daemon: DaemonProcess, model: LoopbackProcess, tmp_path: Path
) -> None:
    with daemon.client() as client:
        chat = Chat(client, model=AGENT)
        work(chat, "look")
        daemon.wait_log("session confirmed")
    assert daemon.stop() == 0
    with DaemonProcess(tmp_path, model.base_url, VARIABLES) as next_one:
        next_one.wait_serving()
        with next_one.client() as client:
            chat._client = client
            assert chat.say("again", "done") == "done"
            (known,) = [c for c in client.get("/conversations", cast_to=dict)["data"]]
        assert known["turns"] == 2
        assert "tool-canary" in str(model.requests()[-1]["body"]["messages"])
        assert next_one.stop() == 0


@pytest.mark.parametrize("harm", ["deleted", "truncated", "went on"])
def test_a_session_that_is_not_the_history_is_imported_instead(
    daemon: DaemonProcess, model: LoopbackProcess, tmp_path: Path, harm: str
) -> None:
    with daemon.client() as client:
        chat = Chat(client, model=AGENT)
        work(chat, "look")
        daemon.wait_log("session confirmed")
        kill_worker(daemon)
        file = transcript(tmp_path)
        match harm:
            case "deleted":
                file.unlink()
            case "truncated":
                file.write_bytes(file.read_bytes()[:-40])
            case _:
                lines = file.read_bytes().splitlines(keepends=True)
                user = next(line for line in lines if b'"type":"user"' in line)
                file.write_bytes(b"".join([*lines, user]))
        assert chat.say("again", "done") == "done"
    assert model.conversations()[-1] == chat.spoken
    assert [e for e in daemon.log if e["event"] == "session cannot be resumed"]
    assert daemon.stop() == 0


def test_a_worker_that_was_lost_in_a_turn(
    daemon: DaemonProcess, model: LoopbackProcess, tmp_path: Path
) -> None:
    with daemon.client(timeout=2.0) as hasty, daemon.client() as client:
        chat = Chat(client, model=AGENT)
        work(chat, "look")
        daemon.wait_log("session confirmed")
        cut: list[ChatCompletionMessageParam] = [
            *chat.messages,
            {"role": "user", "content": directive(words=1000, pace=0.1)},
        ]
        with pytest.raises(openai.APITimeoutError):
            hasty.chat.completions.create(model=AGENT, messages=cut)
        daemon.wait_log("turn", outcome="cancelled")
        assert chat.say("another", "done") == "done"
    assert model.conversations()[-1] == chat.spoken
    assert daemon.stop() == 0
