"""The fake CLI's sessions on disk, and what it makes of them when it is to resume one."""

from __future__ import annotations

import json
import os
import threading

from tests.fakes.fake_cli_pipes import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tests.fakes.fake_cli_turns import Cli

LOST = "No response requested."


def new_uuid() -> str:
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


class Transcript:
    """The file of one session. What is added is written at once or, with FAKE_CLI_WRITES=late=S
    (2.1.197 is late too), only after S seconds or at the end of stdin."""

    def __init__(self, cli: Cli) -> None:
        self.session = cli.session
        config = os.environ.get("CLAUDE_CONFIG_DIR") or os.path.expanduser("~/.claude")
        self.projects = os.path.join(config, "projects")
        name = "".join(c if c.isascii() and c.isalnum() else "-" for c in os.getcwd())
        self.path = os.path.join(self.projects, name, f"{self.session}.jsonl")
        late = "late=0.1" if cli.old else "at_once"
        self.late = float(cli.settings.get("writes", late).partition("=")[2] or 0)
        self.unwritten: list[bytes] = []
        self.lock = threading.Lock()

    def add(self, kind: str, **fields: Any) -> None:
        line = {"type": kind, "sessionId": self.session, "isSidechain": False, **fields}
        self.unwritten.append(json.dumps(line).encode() + b"\n")
        if not self.late:
            self.write()
        elif len(self.unwritten) == 1:
            timer = threading.Timer(self.late, self.write)
            timer.daemon = True
            timer.start()

    def write(self) -> None:
        with self.lock:
            lines, self.unwritten = b"".join(self.unwritten), []
            if lines:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
                with open(self.path, "ab", buffering=0) as file:
                    file.write(lines)

    def entries(self) -> list[Any]:
        """The lines of the file that can be read."""
        found = []
        with open(self.path, "rb") as file:
            for line in file:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found


def resume(cli: Cli, session: str) -> None:
    """Go on with a session, or end with the words of the real CLI."""
    cli.session = session
    transcript = Transcript(cli)
    if not cli.old and not os.path.exists(transcript.path) and os.path.isdir(transcript.projects):
        # 2.1.330 finds the session of another directory too.
        for name in os.listdir(transcript.projects):
            path = os.path.join(transcript.projects, name, f"{session}.jsonl")
            transcript.path = path if os.path.exists(path) else transcript.path
    try:
        entries = transcript.entries()
    except OSError:
        entries = []
    for entry in entries:
        if entry["type"] == "snapshot":
            cli.snapshot = entry["system"]
        elif entry["type"] in ("user", "assistant"):
            cli.history.append((entry["type"], entry["message"]["content"]))
    if not cli.history:
        cli.result(is_error=True, turns=0)
        write_all(2, f"No conversation found with session ID: {session}\n".encode())
        os._exit(1)
    if cli.history[-1][0] == "user":
        cli.history.append(("assistant", [{"type": "text", "text": LOST}]))
    cli.transcript = transcript
