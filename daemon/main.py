"""The command line and the composition root: the only module that joins the daemon to its front."""

import argparse
import ipaddress
import os
import resource
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon import config as configuration
from maxd.daemon.catalog import Catalog
from maxd.daemon.channels import TELEGRAM_CHAT, TELEGRAM_TOKEN, Channel, open_channels
from maxd.daemon.config import ConfigError
from maxd.daemon.demo import Demo
from maxd.daemon.ledger import Ledger, StateError
from maxd.daemon.lifecycle import Stopped
from maxd.daemon.logs import configure, get_logger
from maxd.daemon.notices import Message, trial_notice
from maxd.daemon.notify import Notifier
from maxd.daemon.service import limits, run
from maxd.daemon.settings import Config
from maxd.daemon.settings_doc import example_toml
from maxd.daemon.status_command import KEY_VARIABLE, add_parser, status_command
from maxd.http.server import PortTaken, open_sockets
from maxd.http.serving import serve_http
from maxd.workers.faults import ModelNotFound
from maxd.workers.process import sweep_marked
from maxd.workers.tree import MARKER

# sysexits.h: what a service manager can tell apart.
EX_UNAVAILABLE = 69
EX_CANTCREAT = 73
EX_TEMPFAIL = 75
EX_CONFIG = 78
# A second signal cut the end short.
EX_INTERRUPTED = 130
# Each worker takes about six descriptors, each client one.
WANTED_FILES = 65536
# Variables that begin like those of settings.
NOT_SETTINGS = frozenset({MARKER, KEY_VARIABLE})

Serving = Callable[[], Awaitable[None]]


def main(argv: list[str] | None = None) -> int:
    """The `maxd` command. Returns its exit code."""
    options = _parser().parse_args(argv)
    match options.command:
        case "demo":
            return demo(options.port)
        case "config":
            print(example_toml(), end="")
            return 0
        case "notify-test":
            return notify_test(options.config)
        case "status":
            return status(options)
        case _:
            overrides = {
                "server.host": options.host,
                "server.port": options.port,
                "log.format": options.log_format,
            }
            return serve(options.config, overrides)


def serve_alias(argv: list[str] | None = None) -> int:
    """The `claude-max-api` command, `[PORT]` its only argument: `maxd serve` under the name of
    the project that many configurations still start."""
    parser = argparse.ArgumentParser(prog="claude-max-api", description="Same as maxd serve.")
    parser.add_argument("port", nargs="?", help="port to listen on")
    return serve(None, {"server.port": parser.parse_args(argv).port})


def serve(path: Path | None, overrides: Mapping[str, object]) -> int:
    """Load the configuration and serve until told to stop. Returns an exit code."""
    try:
        config = configuration.load(path, os.environ, overrides, not_settings=NOT_SETTINGS)
        limits(config, Catalog(config.models, config.make_profiles()))
        channels = open_channels(config.notify, os.environ)
    except ConfigError as error:
        return _fail(EX_CONFIG, *error.problems)
    except ModelNotFound as error:
        return _fail(EX_CONFIG, f"pool.warm: {error.message}")
    if not is_loopback(config.server.host):
        return _fail(
            EX_CONFIG,
            f"server.host: {config.server.host} is reachable from other machines. maxd serves a "
            "shell to whoever can connect, and has no API keys yet: listen on 127.0.0.1.",
        )
    configure(config.log.format, config.log.level, environ=os.environ)
    return _guarded(config, os.environ, None, channels)


def notify_test(path: Path | None) -> int:
    """Send one notice through every channel and print what has become of it. Returns 0 if all
    have taken it."""
    try:
        config = configuration.load(path, os.environ, {}, not_settings={MARKER})
        channels = open_channels(config.notify, os.environ)
    except ConfigError as error:
        return _fail(EX_CONFIG, *error.problems)
    if not channels:
        settings = f"{TELEGRAM_TOKEN} and {TELEGRAM_CHAT}, notify.urls or notify.webhook"
        return _fail(1, f"there is no channel to notify through; set {settings}.")
    # What libraries log would stand between the outcomes.
    configure("text", "error", environ=os.environ)
    notifier = Notifier(channels, get_logger("maxd"), interval_seconds=0)
    outcomes = trio.run(notifier.send_now, Message(trial_notice()))
    for name, failure in outcomes:
        print(f"{name}: {'sent' if failure is None else f'not sent: {failure}'}")
    return 0 if all(failure is None for _, failure in outcomes) else 1


def status(options: argparse.Namespace) -> int:
    """Show how the running daemon is. Returns an exit code."""
    try:
        config = configuration.load(options.config, os.environ, {}, not_settings=NOT_SETTINGS)
    except ConfigError as error:
        return _fail(EX_CONFIG, *error.problems)
    return status_command(
        config, os.environ, url=options.url, watch=options.watch, as_json=options.json
    )


def demo(port: int | None) -> int:
    """Serve with the loopback model behind the real CLI, and ask one question. An exit code."""
    configure("auto", "warning", environ=os.environ)
    with Demo(os.environ) as show:
        config = show.config(port)
        return _guarded(config, show.environment, show)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _guarded(
    config: Config,
    environment: Mapping[str, str],
    show: Demo | None,
    channels: Sequence[Channel] = (),
) -> int:
    """Take the lock and the port, run, and give both back."""
    log = get_logger("maxd")
    code = 0
    try:
        with Ledger(config.state_directory()) as ledger:
            sockets = _listen(config, show)
            try:
                trio.run(_everything, config, environment, ledger, sockets, log, show, channels)
            except* Stopped:
                code = EX_INTERRUPTED
    except StateError as error:
        return _fail(EX_TEMPFAIL, str(error))
    except PortTaken as error:
        return _fail(EX_UNAVAILABLE, f"{error}; choose another with --port or server.port.")
    except OSError as error:
        return _fail(EX_CANTCREAT, f"cannot start: {error.strerror or error}")
    return code


def _listen(config: Config, show: Demo | None) -> list[socket.socket]:
    try:
        return open_sockets(config.server.host, config.server.port)
    except PortTaken:
        if show is None or show.port_is_wanted:
            raise
        return open_sockets(config.server.host, 0)


async def _everything(
    config: Config,
    environment: Mapping[str, str],
    ledger: Ledger,
    sockets: list[socket.socket],
    log: FilteringBoundLogger,
    show: Demo | None,
    channels: Sequence[Channel],
) -> None:
    _raise_file_limit()
    for earlier in ledger.earlier:
        swept = await sweep_marked(earlier.id)
        log.warning("an earlier run did not end cleanly", processes_killed=len(swept))
    ledger.mark_swept()
    where = f"http://{config.server.host}:{sockets[0].getsockname()[1]}"
    front = partial(serve_http, config.server, sockets, version("maxd"), log)
    async with trio.open_nursery() as nursery:
        if show is not None:
            await nursery.start(show.serve_model)
            environment = show.environment
        on_serving = partial(_announce, log, where) if show is None else partial(show.play, where)
        instance = ledger.instance.id
        await run(
            config, environment, instance, log, front, channels=channels, on_serving=on_serving
        )
        nursery.cancel_scope.cancel()


async def _announce(log: FilteringBoundLogger, where: str) -> None:
    log.info("serving", url=where, pid=os.getpid())


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _fail(code: int, *problems: str) -> int:
    for problem in problems:
        print(f"maxd: {problem}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="maxd",
        description="The claude CLI you are logged in to, behind an OpenAI-compatible API.",
    )
    parser.add_argument("--version", action="version", version=f"maxd {version('maxd')}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve until stopped, in the foreground")
    serve.add_argument("port", nargs="?", help="port to listen on (3456)")
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    serve.add_argument("--log-format", choices=("auto", "text", "json"))
    show = commands.add_parser("demo", help="see it work, without an account or the internet")
    show.add_argument("--port", type=int, help="port to listen on (3456, or any free one)")
    trial = commands.add_parser("notify-test", help="send one notice through every channel")
    trial.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    add_parser(commands)
    commands.add_parser("config", help="print all settings with their defaults, as TOML")
    return parser
