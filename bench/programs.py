"""The servers of the bench, each a program of its own: the loopback model, maxd, and
claude-max-api-proxy."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.client import HOST

PROXY = "claude-max-api-proxy"
PROXY_VERSION = "1.0.0"
START_SECONDS = 60.0
STOP_SECONDS = 20.0

# All three print the address they serve on.
_ADDRESS = re.compile(rf"http://{re.escape(HOST)}:([0-9]+)")


class CannotStart(Exception):
    """A program is missing or does not start."""


class Program:
    """A server in a session of its own, its output in a file. Leaving it ends it."""

    def __init__(
        self, argv: list[str], environment: Mapping[str, str], log: Path, cwd: Path | None = None
    ) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=cwd,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def wait_port(self) -> int:
        """Wait until it says where it serves. Raises CannotStart."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            for line in self.lines():
                if address := _ADDRESS.search(line):
                    return int(address[1])
            time.sleep(0.02)
        end = self._log.read_text(errors="replace")[-2000:]
        raise CannotStart(f"{self._process.args!r} does not serve; it said:\n{end}")

    def lines(self) -> Iterator[str]:
        """The whole lines it has printed so far."""
        text = self._log.read_text(errors="replace")
        return (line for line in text.splitlines(keepends=True) if line.endswith("\n"))


def loopback_model(environment: Mapping[str, str], private: Path) -> Program:
    """The loopback model."""
    argv = [sys.executable, "-m", "maxd.workers.loopback"]
    return Program(argv, environment, private / "loopback.log")


def maxd(
    environment: Mapping[str, str],
    private: Path,
    workspace: Path,
    name: str = "maxd",
    **more: str,
) -> Program:
    """maxd as it comes, except for where its files lie, the form of its log, and `more`."""
    settings = {
        **more,
        "MAXD_SERVER_PORT": "0",
        "MAXD_STATE_DIRECTORY": str(private / f"{name}-state"),
        "MAXD_PROFILES_DIRECTORY": str(workspace),
        "MAXD_LOG_FORMAT": "json",
    }
    argv = [sys.executable, "-m", "maxd.daemon", "serve"]
    return Program(argv, {**environment, **settings}, private / f"{name}.log")


def turns_in_log(program: Program) -> dict[str, dict[str, Any]]:
    """What maxd's log says of each turn, by the request's id."""
    turns = {}
    for line in program.lines():
        with suppress(ValueError):
            entry = json.loads(line)
            if entry.get("event") == "turn":
                turns[str(entry["request"])] = entry
    return turns


def install_proxy(into: Path) -> Path:
    """Install claude-max-api-proxy with npm unless it is there; return its program. Raises
    CannotStart."""
    folder = into / "node_modules" / PROXY
    with suppress(OSError, ValueError, KeyError):
        if json.loads((folder / "package.json").read_text())["version"] == PROXY_VERSION:
            return folder / "dist" / "server" / "standalone.js"
    what = f"{PROXY}@{PROXY_VERSION}"
    print(f"installing {what} with npm …", file=sys.stderr)
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    into.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["npm", "install", "--prefix", str(into), *quiet, what], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotStart(f"{error} (--without-proxy leaves it out)") from None
    return folder / "dist" / "server" / "standalone.js"


def proxy(script: Path, environment: Mapping[str, str], private: Path, workspace: Path) -> Program:
    """claude-max-api-proxy, working in `workspace`. Raises CannotStart without node."""
    node = shutil.which("node")
    if node is None:
        raise CannotStart("node is not installed (--without-proxy leaves the proxy out)")
    # It cannot take port 0.
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
    return Program([node, str(script), str(port)], environment, private / "proxy.log", workspace)
