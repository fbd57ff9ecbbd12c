"""What the daemon finds of its CLI by itself: shown, and switched off for its clients."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.activation import fake_cli_variables
from tests.end_to_end.running import START_SECONDS, DaemonProcess, LoopbackProcess
from tests.workers.rig import write_probed_fake

# The daemon with less patience before its probes; it has no setting for that.
HASTY = """
import maxd.daemon.feature_verdicts as verdicts
from maxd.daemon.main import main
verdicts.SETTLE_SECONDS = verdicts.AGAIN_SECONDS = 0.1
raise SystemExit(main(["serve"]))
"""
TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
ASKED = {"model": "sonnet:chat", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def daemon(tmp_path: Path, model: LoopbackProcess) -> Iterator[DaemonProcess]:
    """With the fake CLI, which takes a history and has no functions."""
    variables = fake_cli_variables(CLAUDE_CLI=str(write_probed_fake(tmp_path)))
    command = [sys.executable, "-c", HASTY]
    with DaemonProcess(tmp_path, model.base_url, variables, command=command) as daemon:
        yield daemon.wait_serving()
        assert daemon.stop() == 0


def post(daemon: DaemonProcess, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{daemon.base_url}/v1/{path}", json=body, timeout=START_SECONDS)


def test_what_fails_is_shown_and_switched_off(daemon: DaemonProcess) -> None:
    before = httpx.get(f"{daemon.base_url}/status").json()["cli"]["probes"]
    names = ["bind", "history", "functions", "schema", "resume", "reset"]
    assert [probe["name"] for probe in before] == names
    daemon.wait_log("the claude CLI does not do all that is expected of it", probe="functions")
    probes = {
        probe["name"]: probe
        for probe in httpx.get(f"{daemon.base_url}/status").json()["cli"]["probes"]
    }
    assert probes["bind"]["passed"]
    assert probes["history"]["passed"]
    assert probes["functions"]["passed"] is False
    assert probes["functions"]["reason"]
    assert "501" in probes["functions"]["switches_off"]
    assert post(daemon, "chat/completions", ASKED).status_code == 200
    refused = post(daemon, "chat/completions", {**ASKED, "tools": [TOOL]})
    assert refused.status_code == 501
    assert refused.headers["x-should-retry"] == "false"
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_by_cli", "tools")
    tool = {"name": "clock", "input_schema": {"type": "object"}}
    refused = post(daemon, "messages", {**ASKED, "max_tokens": 10, "tools": [tool]})
    assert (refused.status_code, refused.json()["type"]) == (501, "error")
    assert "tools" in refused.json()["error"]["message"]
