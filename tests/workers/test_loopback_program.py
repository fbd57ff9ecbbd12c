"""The loopback model as a program of its own, and as the service of a real CLI."""

import importlib.util
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx
import pytest
import trio

from maxd.workers.loopback import LoopbackModel, environment, serve_loopback_model

PATIENCE = 30
PROGRAM = [sys.executable, "-m", "maxd.workers.loopback"]


@asynccontextmanager
async def running(argv: list[str], **options: Any) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(argv, stdin=PIPE, stdout=PIPE, **options)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with trio.fail_after(PATIENCE):
            yield process
    finally:
        process.kill()
        with trio.CancelScope(deadline=trio.current_time() + 5, shield=True):
            await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()


async def lines(process: trio.Process) -> AsyncGenerator[bytes, None]:
    assert process.stdout is not None
    buffered = b""
    while piece := await process.stdout.receive_some():
        *whole, buffered = (buffered + piece).split(b"\n")
        for line in whole:
            yield line


async def first_line(process: trio.Process) -> str:
    async with aclosing(lines(process)) as output:
        return (await anext(output)).decode()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_a_script_until_it_is_told_to_end(tmp_path: Path, end: int) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"text":"one"},{"text":"two"}]')
    async with running([*PROGRAM, "--script", str(script)]) as process:
        base_url = await first_line(process)
        async with httpx.AsyncClient(base_url=base_url) as client:
            body = {"messages": [{"role": "user", "content": "hi"}]}
            replies = [await client.post("/v1/messages", json=body) for _ in range(3)]
            texts = [reply.json()["content"][0]["text"] for reply in replies]
            assert texts == ["one", "two", "two"]
            assert len((await client.get("/loopback/requests")).json()) == 3
            process.send_signal(end)
            assert await process.wait() == 0


async def test_a_port_in_use_and_a_bad_script_are_said_in_a_line(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"txt":"one"}]')
    async with running([*PROGRAM, "--script", str(script)], stderr=PIPE) as process:
        assert process.stderr is not None
        assert b"unknown field `txt`" in b"".join([piece async for piece in process.stderr])
        assert await process.wait() == 2
    async with trio.open_nursery() as nursery:
        model: LoopbackModel = await nursery.start(serve_loopback_model)
        async with running([*PROGRAM, "--port", str(model.port)], stderr=PIPE) as process:
            assert process.stderr is not None
            error = b"".join([piece async for piece in process.stderr])
            assert error.startswith(b"cannot listen on port")
            assert error.count(b"\n") == 1
            assert await process.wait() == 1
        nursery.cancel_scope.cancel()


def bundled_cli() -> str | None:
    """The CLI that comes with the SDK, if the SDK is installed."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    path = Path(spec.origin).parent / "_bundled/claude" if spec and spec.origin else None
    return str(path) if path and path.exists() else None


@pytest.mark.skipif(bundled_cli() is None, reason="no bundled claude")
async def test_a_real_cli_takes_it_for_the_service(tmp_path: Path, nursery: trio.Nursery) -> None:
    model: LoopbackModel = await nursery.start(serve_loopback_model)
    cli = bundled_cli()
    assert cli is not None
    argv = [cli, "--print", "--input-format=stream-json", "--output-format=stream-json"]
    argv += ["--verbose", "--no-session-persistence", "--tools=", "--setting-sources="]
    variables = environment(model.base_url, str(tmp_path), subscription=True)
    variables["PATH"] = os.environ["PATH"]
    directive = {"text": "hello", "thinking": "hm", "limit": {"status": "allowed_warning"}}
    prompts = [f"<<loopback {json.dumps(directive)} >>", "What is maxd?"]
    prompts.append('<<loopback {"limit":{"status":"rejected","resets_at":4102444800}} >>')
    said: list[dict[str, Any]] = []
    async with running([*argv, "--strict-mcp-config"], env=variables, cwd=tmp_path) as process:
        assert process.stdin is not None
        async with aclosing(lines(process)) as output:
            for prompt in prompts:
                message = {"type": "user", "message": {"role": "user", "content": prompt}}
                await process.stdin.send_all(json.dumps(message).encode() + b"\n")
                async for line in output:
                    said.append(json.loads(line))
                    if said[-1]["type"] == "result":
                        break
    results = [event for event in said if event["type"] == "result"]
    assert results[0]["result"] == "hello"
    assert "You asked: What is maxd?\nI was given 2 earlier" in results[1]["result"]
    assert results[2]["api_error_status"] == 429
    limits = [e["rate_limit_info"] for e in said if e["type"] == "rate_limit_event"]
    # What it makes of an answer that tells of no window is the CLI's own affair.
    assert limits[0]["status"] == "allowed_warning"
    assert (limits[-1]["status"], limits[-1]["resetsAt"]) == ("rejected", 4102444800)
    assert list(model.failures) == []
