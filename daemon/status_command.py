"""`maxd status`: asks a running daemon how it is, and shows the answer."""

import http.client
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from maxd.daemon.settings import Config
from maxd.daemon.status import Status
from maxd.daemon.status_table import render
from maxd.daemon.unix_http import UnixConnection

if TYPE_CHECKING:
    import argparse

KEY_VARIABLE: Final = "MAXD_API_KEY"
"""The environment variable with the API key to ask with, where the daemon requires one."""

ANSWER_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 1.0
# More than the largest pool's status; an answer without an end must not fill the memory.
_MOST_BYTES: Final = 32 * 2**20
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class Unreachable(Exception):
    """No daemon has answered as one should. The text says what happened."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options to those of `maxd`."""
    parser = commands.add_parser("status", help="show how the running daemon is")
    parser.add_argument("--url", help="where it is (http://127.0.0.1:3456)")
    parser.add_argument("--watch", action="store_true", help="show it again every second")
    parser.add_argument("--json", action="store_true", help="print GET /status instead of tables")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")


def status_command(
    config: Config,
    environ: Mapping[str, str],
    *,
    url: str | None = None,
    watch: bool = False,
    as_json: bool = False,
) -> int:
    """Print the status of the daemon at `url`, or where `config` says, once or, with `watch`,
    every second until interrupted.

    Returns 0 if it can be reached and accepts turns, else 1. The API key comes from the
    environment: on a command line everybody could read it.
    """
    base = url or base_url(config)
    key = environ.get(KEY_VARIABLE)
    try:
        if watch:
            return _watch_json(base, key) if as_json else _watch(base, key, Console())
        return _print_json(base, key) if as_json else _once(base, key, Console())
    except KeyboardInterrupt:
        return 0


def base_url(config: Config) -> str:
    """Where a client on this machine finds the status of the daemon of `config`: `http://…`, or
    `unix:` and a path."""
    if config.server.admin_socket:
        return f"unix:{Path(config.server.admin_socket).expanduser()}"
    host = _ANY_ADDRESS.get(config.server.host, config.server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{config.server.port}"


def ask(base: str, key: str | None) -> bytes:
    """The answer to `GET /status`. Raises Unreachable."""
    connection, path = _connection(base)
    headers = {"Accept": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        connection.request("GET", f"{path}/status", headers=headers)
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise Unreachable(f"no maxd answers at {base}: {reason}") from None
    finally:
        connection.close()
    if answer.status == 401:
        raise Unreachable(f"{base} wants an API key: put it into {KEY_VARIABLE}")
    if answer.status != 200:
        raise Unreachable(f"{base} answers with status {answer.status}: is that maxd?")
    return body


def _connection(base: str) -> tuple[http.client.HTTPConnection, str]:
    """The connection to `base`, and what stands before its paths."""
    if base.startswith("unix:"):
        return UnixConnection(base.removeprefix("unix:"), ANSWER_SECONDS), ""
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unreachable(f"{base} is no http:// address")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, port, timeout=ANSWER_SECONDS), parts.path.rstrip("/")


def decode(base: str, body: bytes) -> Status:
    """The status in an answer. Raises Unreachable for what is none."""
    try:
        return msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreachable(f"{base} does not answer as this version of maxd does") from None


def _once(base: str, key: str | None, console: Console) -> int:
    try:
        status = decode(base, ask(base, key))
    except Unreachable as error:
        print(f"maxd: {error}", file=sys.stderr)
        return 1
    console.print(render(status))
    return _code(status)


def _print_json(base: str, key: str | None) -> int:
    try:
        body = ask(base, key)
        status = decode(base, body)
    except Unreachable as error:
        print(f"maxd: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(msgspec.json.format(body).decode() + "\n")
    return _code(status)


def _watch(base: str, key: str | None, console: Console) -> int:
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            shown: RenderableType
            try:
                shown = render(decode(base, ask(base, key)))
            except Unreachable as error:
                shown = Text(str(error), style="red")
            live.update(shown, refresh=True)
            time.sleep(WATCH_SECONDS)


def _watch_json(base: str, key: str | None) -> int:
    """A line for each look, until nobody reads them."""
    while True:
        try:
            body = ask(base, key)
            decode(base, body)
            print(msgspec.json.format(body, indent=-1).decode(), flush=True)
        except Unreachable as error:
            print(f"maxd: {error}", file=sys.stderr)
        except BrokenPipeError:
            # Or Python complains about it once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        time.sleep(WATCH_SECONDS)


def _code(status: Status) -> int:
    return 0 if status.state == "serving" else 1
