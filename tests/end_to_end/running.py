"""The real parts as processes: a loopback model, and `maxd serve` with the real CLI before it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, ClassVar

import httpx
import openai
import psutil

from maxd.workers.loopback import environment
from maxd.workers.loopback.script import COMMAND_TRACES

# What the CLI adds to a message: reminders, and the trace of its own /clear in a reset worker.
ADDED = ("<system-reminder>", *COMMAND_TRACES)
START_SECONDS = 30.0
STOP_SECONDS = 30.0


class LoopbackProcess:
    """`python -m maxd.workers.loopback` and what it was asked."""

    def __init__(self, script: Path | None = None, port: int = 0) -> None:
        command = [sys.executable, "-m", "maxd.workers.loopback", f"--port={port}"]
        if script is not None:
            command.append(f"--script={script}")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()
        self._client = httpx.Client(base_url=self.base_url)

    def requests(self) -> list[dict[str, Any]]:
        """The requests to the model so far, oldest first."""
        recorded: list[dict[str, Any]] = self._client.get("/loopback/requests").json()
        return recorded

    def conversations(self) -> list[list[tuple[str, str]]]:
        """Of each request the messages as (role, text), without what the CLI adds."""
        return [spoken(request["body"]["messages"]) for request in self.requests()]

    def forget(self) -> None:
        self._client.delete("/loopback/requests")

    def close(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(STOP_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()


def spoken(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The messages of user and assistant, their texts joined."""
    said = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts = [
            block["text"]
            for block in blocks
            if block["type"] == "text" and not block["text"].startswith(ADDED)
        ]
        if message["role"] in ("user", "assistant") and texts:
            said.append((message["role"], "".join(texts)))
    return said


class DaemonProcess:
    """`maxd serve` on a free port, with a state directory and home of its own."""

    COMMAND: ClassVar = (sys.executable, "-m", "maxd.daemon", "serve")

    def __init__(
        self,
        root: Path,
        base_url: str,
        variables: Mapping[str, str] | None = None,
        *,
        command: Sequence[str] = COMMAND,
        pass_fds: Sequence[int] = (),
        without: Sequence[str] = (),
    ) -> None:
        home = root / "home"
        home.mkdir(exist_ok=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            **environment(base_url, str(home)),
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "MAXD_STATE_DIRECTORY": str(root / "state"),
            "MAXD_PROFILES_DIRECTORY": str(root / "workspace"),
            "MAXD_SERVER_PORT": "0",
            "MAXD_LOG_FORMAT": "json",
            "MAXD_LOG_LEVEL": "debug",
            "MAXD_POOL_MAX_WORKERS": "4",
            **(variables or {}),
        }
        for name in without:
            del self.environment[name]
        self.process = subprocess.Popen(
            command,
            pass_fds=pass_fds,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        self._lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.log: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        self.base_url = ""

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"event": line.rstrip()}
            self.log.append(entry)
            self._lines.put(entry)
        self._lines.put(None)

    def wait_log(
        self, event: str, seconds: float = START_SECONDS, **fields: object
    ) -> dict[str, Any]:
        """The next log entry of this event and fields. Raises AssertionError without one."""
        while True:
            try:
                entry = self._lines.get(timeout=seconds)
            except Empty:
                entry = None
            if entry is None:
                raise AssertionError(f"no {event!r} in the log: {self.log}")
            if entry["event"] == event and fields.items() <= entry.items():
                return entry

    def drop_log(self) -> None:
        """Let `wait_log` begin with what is logged from now on."""
        while not self._lines.empty():
            self._lines.get()

    def wait_serving(self) -> "DaemonProcess":
        self.base_url = self.wait_log("serving")["url"]
        return self

    def client(self, **options: Any) -> openai.OpenAI:
        """The official SDK, without its retries."""
        settings = {"api_key": "not-needed", "max_retries": 0, "timeout": 60.0, **options}
        return openai.OpenAI(base_url=f"{self.base_url}/v1", **settings)

    def tree(self) -> list[psutil.Process]:
        """The daemon's processes: keepers, workers and what these have started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the daemon and wait for its end; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        code = self.process.wait(seconds)
        self._reader.join(STOP_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def __enter__(self) -> "DaemonProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.stderr is not None and not self.process.stderr.closed:
            if self.process.poll() is None:
                self.process.kill()
            self.wait()


@contextmanager
def loopback_process(script: Path | None = None) -> Iterator[LoopbackProcess]:
    """A loopback model; `script` is a file with its replies."""
    model = LoopbackProcess(script)
    try:
        yield model
    finally:
        model.close()


def directive(**reply: Any) -> str:
    """A prompt that tells the loopback model what to answer."""
    return f"<<loopback {json.dumps(reply)} >>"


def real_cli() -> str:
    """The CLI that the daemon finds here."""
    found = shutil.which("claude")
    if found is not None:
        return found
    from maxd.workers.cli import bundled_cli

    bundled = bundled_cli()
    assert bundled is not None, "install the extra: pip install maxd[cli]"
    return str(bundled)
