"""Clients that people use, each in a program of its own, before the real CLI.

`make test-clients` installs them and runs this; MAXD_CLIENTS is where they are.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive, loopback_process

HERE = Path(__file__).parent
CLIENTS = Path(os.environ.get("MAXD_CLIENTS", "/nonexistent")).absolute()
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif("MAXD_CLIENTS" not in os.environ, reason="make test-clients runs these"),
]
# Their own first imports take most of it.
SECONDS = 180.0
ANSWER = {"number": 42, "words": ["a", "b"]}
FUNCTION = "mcp__client__get_weather"


@pytest.fixture(scope="module")
def model() -> Iterator[LoopbackProcess]:
    with loopback_process() as model:
        yield model


@pytest.fixture(scope="module")
def daemon(
    model: LoopbackProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path_factory.mktemp("daemon"), model.base_url) as daemon:
        yield daemon.wait_serving()
        assert daemon.stop() == 0


def use(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "name": FUNCTION, "input": {"city": name}}


def loop(*first: dict[str, Any]) -> str:
    blocks = [*first, use("Paris"), use("Rome")]
    replies = [{"blocks": blocks}, {"blocks": [use("Oslo")]}, {"text": "Rain everywhere."}]
    return "What is the weather? " + directive(replies=replies)


PROMPTS = {
    "tools": loop({"type": "text", "text": "Let me see."}),
    # Pydantic AI's run_stream takes the first text for the whole answer, whatever is called.
    "tools_without_text": loop(),
    # As JSON for what asks for it in words, with the CLI's own tool where there is a schema.
    "schema": "The answer as json? " + directive(tool="StructuredOutput", input=ANSWER),
    "called": "The answer? " + directive(tool="mcp__client__Answer", input=ANSWER),
    "words": directive(words=50),
}
WORDS = " ".join(f"word{number}" for number in range(1, 51))


def run(daemon: DaemonProcess, program: str, *, model_id: str) -> dict[str, Any]:
    """What a program tells of its conversations with the daemon."""
    asked = {"base_url": f"{daemon.base_url}/v1", "model": model_id, **PROMPTS}
    if program.endswith(".mjs"):
        command = ["node", str(HERE / program), str(CLIENTS / "node")]
    else:
        command = [str(CLIENTS / "bin/python"), str(HERE / program)]
    environment = {"PATH": os.environ["PATH"], "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        command,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(
    "program",
    [
        "with_langchain.py",
        "with_litellm.py",
        "with_pydantic_ai.py",
        "with_instructor.py",
        "with_openai.mjs",
    ],
)
def test_client(daemon: DaemonProcess, model: LoopbackProcess, program: str) -> None:
    model.forget()
    told = run(daemon, program, model_id="claude-sonnet-4:chat")
    assert told
    for name, value in told.items():
        if name.startswith("structured"):
            assert value == ANSWER, name
        elif name == "text_streamed":
            assert value == WORDS
        else:
            assert value == "Rain everywhere.", name
    if "tools" in told:
        results = {
            block["content"] if isinstance(block["content"], str) else block["content"][0]["text"]
            for request in model.requests()
            for message in request["body"]["messages"]
            if isinstance(message["content"], list)
            for block in message["content"]
            if block["type"] == "tool_result"
        }
        assert {f"It rains in {city}." for city in ("Paris", "Rome", "Oslo")} <= results
