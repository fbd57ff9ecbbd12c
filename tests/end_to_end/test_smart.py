"""Two hundred turns with tools and faults: the client has one answer of each, once."""

import json
import random
from pathlib import Path
from typing import Any

import httpx

from tests.end_to_end.running import DaemonProcess

FAKE_CLI = str(Path(__file__).parents[1] / "fakes" / "fake_cli.py")
TURNS = 200
# Fewer than there may be workers: each goes on in its own.
CONVERSATIONS = 2
# What the fake CLI does in a turn, and what its answer begins with.
KINDS = (
    ("answer=tool=Bash remark=REMARK", "allowed: "),
    ("answer=tool=Read remark=REMARK thinking=hm", "allowed: "),
    ("answer=tool=AskUserQuestion remark=REMARK", "denied: "),
    ("answer=retry=529 text=ANSWER", "ANSWER"),
    ("answer=unstreamed text=ANSWER", "ANSWER"),
)
# One in twenty, because its worker is not trusted with another turn.
CUT = ("answer=cut=1 text=ANSWER", "ANSWER")


def test_no_byte_of_another_round_reaches_the_client(tmp_path: Path) -> None:
    variables = {"CLAUDE_CLI": FAKE_CLI, "MAXD_POOL_WARM": "sonnet"}
    choose = random.Random(1)
    with DaemonProcess(tmp_path, "http://127.0.0.1:9", variables) as daemon:
        url = f"{daemon.wait_serving().base_url}/v1/chat/completions"
        with httpx.Client(timeout=60) as client:
            for number in range(TURNS):
                knobs, begins = CUT if number % 20 == 19 else KINDS[number % len(KINDS)]
                stream = choose.random() < 0.5
                body = {
                    "model": "sonnet",
                    "stream": stream,
                    "messages": [{"role": "user", "content": f"<<fake {knobs}>>"}],
                }
                name = f"cut{number}" if "cut" in knobs else f"c{number % CONVERSATIONS}"
                headers = {"X-Conversation-Id": name}
                reply = client.post(url, json=body, headers=headers)
                assert reply.status_code == 200, reply.text
                assert b"REMARK" not in reply.content
                said = answer(reply, stream)
                assert said.startswith(begins)
                assert said.count(begins) == 1
        assert daemon.stop() == 0


def answer(reply: httpx.Response, stream: bool) -> str:
    if not stream:
        return str(reply.json()["choices"][0]["message"]["content"])
    chunks: list[Any] = [
        json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")
    ]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
