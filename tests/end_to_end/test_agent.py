"""The agent with the real CLI: tools, what the client sees of them, and what it may not do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

CONFIG = """
[profiles.agent]
directory = "{work}"
[profiles.shown]
base = "agent"
show_tools = true
[profiles.fenced]
base = "agent"
deny = ["Bash(touch *)", "WebFetch"]
allow = ["Bash(echo *)", "Bash(ls *)", "Read", "Agent"]
[profiles.confined]
base = "agent"
tools = ["Read", "Write", "Edit"]
settings = []
mcp = "none"
browser = "off"
confine = true
directory = "{work}"
[profiles.finishing]
base = "agent"
on_disconnect = "finish"
"""
AGENT = "sonnet"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def daemon(
    _model: LoopbackProcess, work: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    root = tmp_path_factory.mktemp("daemon")
    config = root / "home" / ".config" / "maxd" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG.format(work=work))
    variables = {"MAXD_SERVER_HEARTBEAT_SECONDS": "1", "MAXD_POOL_WARM": "sonnet"}
    with DaemonProcess(root, _model.base_url, variables) as daemon:
        yield daemon.wait_serving()
        assert daemon.stop() == 0


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[openai.OpenAI]:
    with daemon.client() as client:
        yield client


def ask(client: openai.OpenAI, prompt: str, model: str = AGENT, **headers: str) -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], extra_headers=headers
    )
    return answer.choices[0].message.content or ""


def streamed(client: openai.OpenAI, prompt: str, model: str = AGENT, **headers: str) -> str:
    chunks = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        extra_headers=headers,
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def task(folder: Path) -> str:
    """Five rounds of tools, each with a remark that has a mark of its own."""
    file, other = str(folder / "a.txt"), str(folder / "b.txt")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("Bash", {"command": f"printf 'one\\n' > {file}"}),
        ("Read", {"file_path": file}),
        ("Edit", {"file_path": file, "old_string": "one", "new_string": "two"}),
        ("Write", {"file_path": other, "content": "three\n"}),
        ("Bash", {"command": f"cat {file} {other} > {folder}/c.txt"}),
    ]
    replies: list[dict[str, Any]] = [
        {"text": f"REMARK{number} on the way.", "tool": tool, "input": given}
        for number, (tool, given) in enumerate(calls)
    ]
    return directive(replies=[*replies, {"text": "All five are done."}])


def results(model: LoopbackProcess) -> list[str]:
    """What the tools have told the model, in the last request."""
    told = []
    for message in model.requests()[-1]["body"]["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_result":
                told.append(json.dumps(block["content"]))
    return told


@pytest.mark.parametrize("how", [ask, streamed])
def test_five_rounds_of_tools_and_one_answer(
    client: openai.OpenAI, tmp_path: Path, how: Any
) -> None:
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        assert how(client, task(folder)) == "All five are done."
        assert (folder / "a.txt").read_text() == "two\n"
        assert (folder / "b.txt").read_text() == "three\n"
        assert (folder / "c.txt").read_text() == "two\nthree\n"


def test_live_shows_all_of_it(client: openai.OpenAI, tmp_path: Path) -> None:
    said = streamed(client, task(tmp_path), **{"X-Maxd-Stream": "live"})
    remarks = [f"REMARK{number} on the way." for number in range(5)]
    assert said == "\n\n".join([*remarks, "All five are done."])


def test_adaptive_shows_an_answer_before_it_has_ended(
    client: openai.OpenAI, model: LoopbackProcess
) -> None:
    chunks = client.chat.completions.create(
        model=AGENT,
        messages=[
            {
                "role": "user",
                "content": directive(
                    replies=[
                        {"text": "REMARK", "tool": "Bash", "input": {"command": "true"}},
                        {"words": 200, "pace": 0.01},
                    ]
                ),
            }
        ],
        stream=True,
        extra_headers={"X-Maxd-Stream": "adaptive"},
    )
    said = ""
    for chunk in chunks:
        if not said and chunk.choices[0].delta.content:
            assert model.requests()[-1]["ended"] is None
        said += chunk.choices[0].delta.content or ""
    assert said.split() == [f"word{number}" for number in range(1, 201)]


def test_heartbeats_come_while_a_tool_runs(daemon: DaemonProcess) -> None:
    call = {"text": "REMARK", "tool": "Bash", "input": {"command": "sleep 3.6"}}
    body = {
        "model": AGENT,
        "stream": True,
        "messages": [
            {"role": "user", "content": directive(replies=[call, {"text": "Slept."}])},
        ],
    }
    deltas = []
    with httpx.stream("POST", f"{daemon.base_url}/v1/chat/completions", json=body, timeout=60) as r:
        for line in r.iter_lines():
            if line.startswith("data: {"):
                deltas.append(json.loads(line[6:])["choices"][0]["delta"])
    # One a second while nothing else could be sent; a loaded machine adds to them.
    assert deltas.count({}) - 1 >= 3
    assert "".join(delta.get("content", "") for delta in deltas) == "Slept."


def test_a_denied_tool_is_denied_and_the_model_is_told(
    client: openai.OpenAI, daemon: DaemonProcess, model: LoopbackProcess, tmp_path: Path
) -> None:
    commands = [
        f"touch {tmp_path}/hit",
        f"echo a && touch {tmp_path}/hit",
        f"echo a > {tmp_path}/hit",
        f"ls $(touch {tmp_path}/hit)",
        f"cp /etc/hostname {tmp_path}/hit",
        "echo allowed",
    ]
    replies = [{"tool": "Bash", "input": {"command": command}} for command in commands]
    sub = directive(replies=[{"tool": "Bash", "input": {"command": commands[0]}}, {"text": "sub"}])
    replies.append({"tool": "Agent", "input": {"description": "d", "prompt": sub}})
    replies.append({"tool": "Write", "input": {"file_path": f"{tmp_path}/hit", "content": "x"}})
    prompt = directive(replies=[*replies, {"text": "Denied."}])
    assert ask(client, prompt, "sonnet:fenced") == "Denied."
    told = results(model)
    assert list(tmp_path.iterdir()) == []
    assert all("denie" in each or "allows only" in each for each in told[:5])
    assert "allowed" in told[5]
    assert "allows only" in told[-1]
    decisions = httpx.get(f"{daemon.base_url}/status").json()["decisions"]
    # Those that the CLI was told of are denied without a question.
    assert decisions["Bash"]["denied"] >= 1


def test_a_confined_profile_stays_in_its_directory(
    client: openai.OpenAI, model: LoopbackProcess, work: Path, tmp_path: Path
) -> None:
    (work / "in.txt").write_text("INSIDE")
    (tmp_path / "out.txt").write_text("CANARY")
    (work / "link").symlink_to(tmp_path)
    paths = [work / "in.txt", tmp_path / "out.txt", work / "link" / "out.txt", "/etc/hostname"]
    replies: list[dict[str, Any]] = [
        {"tool": "Read", "input": {"file_path": str(path)}} for path in paths
    ]
    replies.append({"tool": "Bash", "input": {"command": "cat /etc/hostname"}})
    prompt = directive(replies=[*replies, {"text": "Stayed."}])
    assert ask(client, prompt, "sonnet:confined") == "Stayed."
    told = results(model)
    assert "INSIDE" in told[0]
    assert all("confined to" in each for each in told[1:4])
    assert "No such tool" in told[4]
    assert "CANARY" not in json.dumps(model.requests())


def test_a_request_cannot_raise_its_rights(client: openai.OpenAI, daemon: DaemonProcess) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        ask(client, "hi", "sonnet:root")
    assert unknown.value.code == "model_not_found"
    for name in ("X-Maxd-Profile", "X-Maxd-Tools", "x-maxd-allow", "X-Maxd-Directory"):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            ask(client, "hi", **{name: "all"})
        assert (caught.value.param or "").lower() == name.lower()
    with pytest.raises(openai.BadRequestError) as mode:
        ask(client, "hi", **{"X-Maxd-Stream": "loud"})
    assert mode.value.param == "X-Maxd-Stream"


def test_a_subagent_says_nothing_to_the_client(
    client: openai.OpenAI, model: LoopbackProcess
) -> None:
    sub = directive(
        replies=[
            {"text": "SUBREMARK", "tool": "Bash", "input": {"command": "echo x"}},
            {"text": "SUBANSWER", "delay": 1},
        ]
    )
    call = {"tool": "Agent", "input": {"description": "d", "prompt": sub}}
    prompt = directive(replies=[{"text": "REMARK", **call}, {"text": "One answer."}])
    assert ask(client, prompt) == "One answer."
    assert streamed(client, prompt, **{"X-Maxd-Stream": "live"}) == "REMARK\n\nOne answer."
    assert any("SUBANSWER" in told for told in results(model)), "the turn has waited for it"


def test_nothing_goes_on_in_the_background(client: openai.OpenAI, model: LoopbackProcess) -> None:
    background = {"command": "sleep 1; echo x", "run_in_background": True}
    wakeup = {"delaySeconds": 60, "prompt": "go on", "reason": "r"}
    prompt = directive(
        replies=[
            {"text": "REMARK", "tool": "Bash", "input": background},
            {"text": "REMARK", "tool": "ScheduleWakeup", "input": wakeup},
            {"text": "Told once."},
        ]
    )
    assert ask(client, prompt) == "Told once."
    bash, later = results(model)
    assert "run_in_background" in bash
    assert "after the answer" in later


def test_a_turn_finishes_for_its_conversation(
    daemon: DaemonProcess, client: openai.OpenAI, model: LoopbackProcess, tmp_path: Path
) -> None:
    call = {"tool": "Bash", "input": {"command": f"sleep 2; touch {tmp_path}/done"}}
    body = {
        "model": "sonnet:finishing",
        "stream": True,
        "messages": [
            {"role": "user", "content": directive(replies=[call, {"text": "Finished alone."}])}
        ],
    }
    headers = {"X-Conversation-Id": "left"}
    # Under the API key of `client`: whose conversation it is belongs to its id.
    mine = headers | {"Authorization": "Bearer not-needed"}
    url = f"{daemon.base_url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=mine, timeout=60) as reply:
        # The first heartbeat: the tool runs.
        next(reply.iter_lines())
    entry = daemon.wait_log("turn", conversation="left")
    assert entry["outcome"] == "finished"
    assert (tmp_path / "done").exists()
    told = ask(client, directive(text="Welcome."), "sonnet:finishing", **headers)
    assert told == "Welcome."
    assert ("assistant", "Finished alone.") in model.conversations()[-1]
