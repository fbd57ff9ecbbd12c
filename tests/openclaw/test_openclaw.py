"""OpenClaw from npm, as it is, through `maxd serve` with the real CLI and the loopback model.

`make test-openclaw` installs OpenClaw and the Node it needs, and runs this.
"""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.running import (
    DaemonProcess,
    LoopbackProcess,
    directive,
    loopback_process,
)

FOLDER = Path(os.environ.get("MAXD_OPENCLAW", ".openclaw")).absolute()
MODEL = "sonnet:openclaw"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
# Starting OpenClaw takes 10 s of CPU by itself.
TURN_SECONDS = 300

pytestmark = [
    pytest.mark.openclaw,
    pytest.mark.skipif("MAXD_OPENCLAW" not in os.environ, reason="make test-openclaw runs it"),
]


@pytest.fixture(scope="module")
def model() -> Iterator[LoopbackProcess]:
    with loopback_process() as model:
        yield model


@pytest.fixture(scope="module")
def daemon(
    model: LoopbackProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    root = tmp_path_factory.mktemp("daemon")
    with DaemonProcess(root, model.base_url, {"MAXD_POOL_WARM": MODEL}) as daemon:
        yield daemon.wait_serving()
        assert daemon.stop() == 0


class OpenClaw:
    """OpenClaw with a home of its own, configured as the documentation says."""

    def __init__(self, home: Path, base_url: str) -> None:
        self.home = home
        self.workspace = home / "workspace"
        pasted = json.loads(documented())
        pasted["models"]["providers"]["maxproxy"]["baseUrl"] = f"{base_url}/v1"
        pasted["agents"]["defaults"]["workspace"] = str(self.workspace)
        (home / ".openclaw").mkdir()
        (home / ".openclaw" / "openclaw.json").write_text(json.dumps(pasted))

    def say(self, message: str, session: str = "one") -> str:
        """One turn of its agent; returns what it answers the user."""
        program = FOLDER / "node_modules" / ".bin" / "openclaw"
        argv = [str(program), "agent", "--local", "--agent", "main", "--json"]
        path = f"{FOLDER / 'node' / 'node_modules' / '.bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            [*argv, "--session-id", session, "--message", message],
            env={"PATH": path, "HOME": str(self.home), "NO_COLOR": "1"},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=TURN_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        payloads = json.loads(done.stdout)["payloads"]
        return "\n".join(payload["text"] for payload in payloads)


def documented() -> str:
    """The configuration that docs/openclaw.md tells users to paste."""
    page = (Path(__file__).parents[2] / "docs" / "openclaw.md").read_text()
    return page.partition("```json\n")[2].partition("```")[0]


@pytest.fixture
def openclaw(daemon: DaemonProcess, tmp_path: Path, model: LoopbackProcess) -> OpenClaw:
    model.forget()
    return OpenClaw(tmp_path, daemon.base_url)


def call(tool: str, **arguments: object) -> dict[str, object]:
    return {"tool": f"mcp__client__{tool}", "input": arguments}


def results(model: LoopbackProcess) -> list[tuple[str, dict[str, Any], str]]:
    """The calls in the last request upstream: the tool, its input and what it has brought."""
    blocks = [
        block
        for message in model.requests()[-1]["body"]["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
    ]
    brought = {b["tool_use_id"]: json.dumps(b["content"]) for b in blocks if "tool_use_id" in b}
    uses = [block for block in blocks if block["type"] == "tool_use"]
    return [(use["name"], use["input"], brought[use["id"]]) for use in uses]


def test_its_own_tools_run_and_one_process_serves_the_conversation(
    openclaw: OpenClaw, model: LoopbackProcess, daemon: DaemonProcess
) -> None:
    asked = directive(
        replies=[
            call("exec", command="echo canary-exec | tee made.txt"),
            call("write", path="written.txt", content="canary-write"),
            call("tool_call", id="automations", args={"action": "list"}),
            {"text": "All three are done."},
        ]
    )
    assert openclaw.say(f"Do it. {asked}") == "All three are done."
    assert (openclaw.workspace / "made.txt").read_text() == "canary-exec\n"
    assert (openclaw.workspace / "written.txt").read_text() == "canary-write"
    exec_, write, automations = results(model)
    assert "canary-exec" in exec_[2]
    assert "written.txt" in write[2]
    assert "unknown tool" not in automations[2].lower()
    # The next day, in another process of OpenClaw's.
    assert openclaw.say(f"And now? {directive(text='Still here.')}") == "Still here."
    turns = [entry for entry in daemon.log if entry["event"] == "turn"]
    assert len({entry["worker"] for entry in turns}) == 1
    assert [entry["continued"] for entry in turns] == [False, True, True, True, True]
    assert len(model.requests()) == 5


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        # Its cron jobs.
        ("automations", {"action": "add", "name": "tea", "message": "tea", "at": "2030-01-01"}),
        ("message", {"action": "send", "target": "nobody", "message": "hi"}),
        ("tts", {"text": "Good morning."}),
        ("browser", {"action": "status"}),
        ("web_fetch", {"url": "http://127.0.0.1:9/"}),
    ],
)
def test_each_kind_of_tool_is_called(
    openclaw: OpenClaw, model: LoopbackProcess, tool: str, arguments: dict[str, object]
) -> None:
    """Whether the tool can do anything here is between it and this machine; that it was called
    with what the model said, and that the model has what came of it, is ours."""
    replies = [call("tool_call", id=tool, args=arguments), {"text": "Done."}]
    assert openclaw.say(directive(replies=replies), session=tool) == "Done."
    ((name, given, result),) = results(model)
    assert (name, given) == ("mcp__client__tool_call", {"id": tool, "args": arguments})
    assert "unknown tool" not in result.lower()
    assert result not in ("", "[]")


def test_an_image_of_its_own_is_seen_by_the_model(
    openclaw: OpenClaw, model: LoopbackProcess
) -> None:
    openclaw.workspace.mkdir(exist_ok=True)
    (openclaw.workspace / "pixel.png").write_bytes(base64.b64decode(PIXEL))
    replies = [call("view_image", path="pixel.png"), {"text": "A pixel."}]
    assert openclaw.say(directive(replies=replies), session="image") == "A pixel."
    assert '"type": "image"' in json.dumps(model.requests()[-1]["body"]["messages"])


def test_its_conventions_pass_through_untouched(openclaw: OpenClaw, model: LoopbackProcess) -> None:
    """`NO_REPLY` means that the user is told nothing. One turn of the command line ends in an error
    then, because there is nothing to print: OpenClaw has understood it."""
    with pytest.raises(AssertionError, match="empty response"):
        openclaw.say(f"Be silent. {directive(text='NO_REPLY')}")
    assert openclaw.say(f"Beat. {directive(text='HEARTBEAT_OK')}", "two") in ("HEARTBEAT_OK", "")
