"""Claude Code itself as a client of maxd."""

import os
import subprocess
from pathlib import Path

from maxd.workers.loopback import environment
from tests.end_to_end.messaging import CHAT
from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive, real_cli


def test_claude_code_is_a_client(
    shared_daemon: DaemonProcess, model: LoopbackProcess, tmp_path: Path
) -> None:
    """Its requests have every beta there is; its own tools are functions of the client's."""
    work = tmp_path / "work"
    work.mkdir()
    prompt = directive(
        replies=[
            {"tool": "mcp__client__Bash", "input": {"command": "echo $((6*7)) > answer"}},
            {"text": "It is written."},
        ]
    )
    done = subprocess.run(
        [real_cli(), "-p", "--model", CHAT, "--allowedTools=Bash", prompt],
        env={
            "PATH": os.environ["PATH"],
            **environment(shared_daemon.base_url, str(tmp_path)),
            "CLAUDE_CODE_MAX_RETRIES": "0",
        },
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "It is written."), done.stderr
    assert (work / "answer").read_text() == "42\n"
    assert len(model.requests()) == 2
