"""A small CLI that answers each message, speaks when it should not, and how to launch it."""

import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from maxd.workers.launch import Launch
from maxd.workers.profiles import CHAT
from maxd.workers.turn import Message, Text, Turn
from maxd.workers.worker import Worker

if TYPE_CHECKING:
    import trio

# Answers each message with its number and its text. A text `SAY …` is answered with the lines in
# it behind the result, in the same write. At SIGUSR1 it speaks without being asked.
PROGRAM = r"""
import json, os, signal, sys
def lines(*messages):
    os.write(1, b"".join(json.dumps(m).encode() + b"\n" for m in messages))
def event(kind, **data):
    return {"type": "stream_event", "event": {"type": kind, **data}}
START = event("message_start", message={"id": "m", "model": "sonnet", "content": []})
signal.signal(signal.SIGUSR1, lambda *_: lines(START))
count = 0
for line in sys.stdin.buffer:
    said = json.loads(line)
    if said["type"] == "control_request":
        answer = {"subtype": "success", "request_id": said["request_id"], "response": {}}
        lines({"type": "control_response", "response": answer})
    elif said["type"] == "user":
        text = said["message"]["content"][0]["text"]
        result = {"type": "result", "subtype": "success", "is_error": False}
        if said.get("shouldQuery") is False:
            lines(result)
            continue
        count += 1
        block = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": f"{count}: {text}"}
        more = json.loads(text[4:]) if text.startswith("SAY ") else []
        lines(
            START,
            event("content_block_start", index=0, content_block=block),
            event("content_block_delta", index=0, delta=delta),
            event("message_delta", delta={"stop_reason": "end_turn"}),
            result,
            *more,
        )
"""


def install(folder: Path) -> str:
    """Write the program into `folder`; return the path of an executable that runs it."""
    program = folder / "cli.py"
    program.write_text(PROGRAM)
    path = folder / "claude"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{program}"\n')
    path.chmod(0o755)
    return str(path)


def launch(cli: str, worker: str) -> Launch:
    return Launch(
        id=worker,
        cli=cli,
        profile=CHAT,
        model="sonnet",
        directory=str(Path(cli).parent),
        environment={"PATH": os.environ["PATH"]},
        marker=f"maxd-continuing-tests/{os.getpid()}-{worker}",
        start_seconds=60.0,
    )


def said(*texts: str) -> Turn:
    """The user and the assistant by turns."""
    roles = ["assistant" if number % 2 else "user" for number in range(len(texts))]
    messages = tuple(
        Message("assistant" if role == "assistant" else "user", (Text(text),))
        for role, text in zip(roles, texts, strict=True)
    )
    return Turn(profile="chat", model="sonnet", messages=messages)


def wait_for_output(worker: Worker) -> None:
    """Block every task until there is something to read of it, or the end: then it learns of
    that and of what else happens at the same moment."""
    assert worker._process is not None
    stdout = cast("trio.lowlevel.FdStream", worker._process.stdout)
    assert select.select([stdout.fileno()], [], [], 60)[0]
