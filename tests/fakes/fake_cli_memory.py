"""What the fake CLI remembers: as a model is sent it, and what `/clear` leaves of it, rightly and
in the wrong ways that a probe is for."""

from __future__ import annotations

import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tests.fakes.fake_cli_turns import Cli

CRUMBS = ["<local-command-caveat>…", "<command-name>/clear…", "<local-command-stdout>…"]
REQUEST = "POST /v1/messages?beta=true HTTP/1.0\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n"


def clear(cli: Cli) -> None:
    """Forget the conversation, or what FAKE_CLI_RESET says instead."""
    cli.resets += 1
    kind, _, first = cli.settings.get("reset", "ok").partition("=")
    if cli.resets < int(first or 1):
        kind = "ok"
    if kind in ("hang", "exit"):
        getattr(cli, f"do_{kind}")("0")
    if kind == "asks":
        cli.remember("user", [{"type": "text", "text": "/clear"}])
        cli.turn("/clear")
        return
    if kind == "summarizes":
        ask_upstream(cli)
    before = cli.history
    if kind != "same":
        cli.session = f"00000000-0000-4000-9000-{cli.resets:012}"
    cli.history = list(before) if kind == "leaks" else []
    if kind == "recalls":
        cli.system += json.dumps(before)
    elif kind == "crumbs":
        cli.remember("user", [{"type": "text", "text": "crumbs " * 300}])
    elif kind == "unbinds":
        cli.system = "(the prompt of the CLI itself)"
    elif kind == "tools":
        cli.tools = [{"name": "Bash"}]
    cli.remember("user", [{"type": "text", "text": text} for text in CRUMBS])
    if not cli.old:
        cli.say({"type": "conversation_reset", "trigger": "clear", "session_id": "the old one"})
    cli.say({"type": "system", "subtype": "init", "session_id": cli.session, "tools": []})
    words = "/clear isn't available in this environment." if kind == "refused" else ""
    if cli.old or words:
        said = [{"type": "text", "text": words or "(no content)"}]
        cli.assistant(cli.new_id("cli"), "<synthetic>", said, "stop_sequence")
    cli.result(is_error=kind == "error", turns=0, text=words)


def ask_upstream(cli: Cli) -> str:
    """Ask the Messages API at ANTHROPIC_BASE_URL; its answer's text."""
    messages = [{"role": role, "content": said} for role, said in joined_blocks(cli.history)]
    system = [{"type": "text", "text": text} for text in ("(billing)", "(agent)", cli.system)]
    body: dict[str, Any] = {"model": cli.model, "stream": True, "max_tokens": 9}
    body |= {"messages": messages, "system": system, "tools": cli.tools}
    data = json.dumps(body).encode()
    host = os.environ["ANTHROPIC_BASE_URL"].removeprefix("http://")
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port))) as connection:
        connection.sendall(REQUEST.format(host=host, size=len(data)).encode() + data)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    events = [json.loads(line[5:]) for line in answer.splitlines() if line.startswith(b"data:")]
    return "".join(event.get("delta", {}).get("text", "") for event in events)


def joined(history: list[tuple[str, list[Any]]]) -> list[Any]:
    """The conversation as `joined_blocks`, each block in short."""
    return [[role, list(map(shown_block, blocks))] for role, blocks in joined_blocks(history)]


def joined_blocks(history: list[tuple[str, list[Any]]]) -> list[Any]:
    """The conversation as a model is sent it: user messages in a row are one."""
    messages: list[Any] = []
    for role, content in history:
        shown = [block for block in content if block.get("text") != ""]
        if messages and role == messages[-1][0] == "user":
            messages[-1][1] += shown
        else:
            messages.append([role, shown])
    return messages


def shown_block(block: Any) -> Any:
    if block["type"] == "text":
        return block["text"]
    if block["type"] == "image":
        return ["image", block["source"]["media_type"], block["source"]["data"]]
    if block["type"] == "tool_use":
        return ["tool_use", block["name"]]
    if block["type"] == "tool_result":
        return ["tool_result", block["content"]]
    return [block["type"]]
