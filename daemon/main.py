"""The command line and the composition root: the only module that joins the daemon to its front."""

import argparse
import gc
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon import config as configuration
from maxd.daemon import doctor, key_command, key_file, service_command
from maxd.daemon.catalog import Catalog
from maxd.daemon.channels import TELEGRAM_CHAT, TELEGRAM_TOKEN, Channel, open_channels
from maxd.daemon.config import ConfigError
from maxd.daemon.demo import Demo
from maxd.daemon.inherited import NotASocket
from maxd.daemon.key_costs import KeyCosts
from maxd.daemon.keys import KeyRing
from maxd.daemon.ledger import Ledger, StateError
from maxd.daemon.lifecycle import Stopped
from maxd.daemon.limits import limits
from maxd.daemon.logs import configure, get_logger
from maxd.daemon.memory import available_memory
from maxd.daemon.notices import Message, trial_notice
from maxd.daemon.notify import Notifier
from maxd.daemon.quotas import Quotas
from maxd.daemon.sd_notify import VARIABLES, Announcer
from maxd.daemon.service import run
from maxd.daemon.settings import Config
from maxd.daemon.settings_doc import example_toml
from maxd.daemon.status_command import KEY_VARIABLE, add_parser, status_command
from maxd.http.listeners import Listeners, SocketTaken, open_listeners
from maxd.http.server import PortTaken
from maxd.http.serving import serve_http
from maxd.workers.cli import find_cli
from maxd.workers.faults import BackendUnavailable, ModelNotFound
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

# Accepted just before a restart, a request has this long to arrive and still be served.
HANDOVER_SECONDS = 0.25

EXPOSED = (
    "{address} can be reached from other machines, and whoever connects has a shell as you. Listen "
    "on 127.0.0.1 (server.host), or make an API key first: maxd key new NAME."
)

Serving = Callable[[], Awaitable[None]]


def main(argv: list[str] | None = None) -> int:
    """The `maxd` command. Returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["claude"]:
        # Every word behind it is the CLI's.
        return _configured(None, partial(run_cli, words[1:]))
    options = _parser().parse_args(words)
    match options.command:
        case "demo":
            return demo(options.port)
        case "config":
            print(example_toml(), end="")
            return 0
        case "service":
            return _configured(options.config, partial(service_command.service, options))
        case "doctor":
            return doctor.doctor(options, partial(_load, options.config, {}))
        case "key":
            return _configured(options.config, partial(key_command.key, options))
        case "notify-test":
            return _configured(options.config, notify_test)
        case "status":
            return _configured(options.config, partial(status, options))
        case _:
            overrides = {
                "server.host": options.host,
                "server.port": options.port,
                "log.format": options.log_format,
            }
            return serve(options.config, overrides)


def _load(path: Path | None, overrides: Mapping[str, object]) -> Config:
    """The configuration with all keys. Raises ConfigError."""
    config = configuration.load(path, os.environ, overrides, not_settings=NOT_SETTINGS)
    return key_file.with_key_file(config, key_file.key_file(path))


def _configured(path: Path | None, command: Callable[[Config], int]) -> int:
    """Run a command that needs the configuration. Returns its exit code."""
    try:
        config = _load(path, {})
    except ConfigError as error:
        return _fail(EX_CONFIG, *error.problems)
    return command(config)


def serve_alias(argv: list[str] | None = None) -> int:
    """The `claude-max-api` command, `[PORT]` its only argument: `maxd serve` under the name of
    the project that many configurations still start."""
    parser = argparse.ArgumentParser(prog="claude-max-api", description="Same as maxd serve.")
    parser.add_argument("port", nargs="?", help="port to listen on")
    return serve(None, {"server.port": parser.parse_args(argv).port})


def serve(path: Path | None, overrides: Mapping[str, object]) -> int:
    """Load the configuration and serve until told to stop. Returns an exit code."""
    try:
        load = partial(_load, path, overrides)
        config = load()
        limits(config, Catalog(config.models, config.make_profiles()), available_memory())
        channels = open_channels(config.notify, os.environ)
    except ConfigError as error:
        return _fail(EX_CONFIG, *error.problems)
    except ModelNotFound as error:
        return _fail(EX_CONFIG, f"pool.warm: {error.message}")
    configure(config.log.format, config.log.level, environ=os.environ)
    # Until the daemon listens for it, and in no other process: a handler does not outlive an exec.
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    return _guarded(config, os.environ, None, channels, load)


def notify_test(config: Config) -> int:
    """Send one notice through every channel and print what has become of it. Returns 0 if all
    have taken it."""
    try:
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


def run_cli(words: Sequence[str], config: Config) -> int:
    """Become the CLI that maxd uses, which need not be on PATH: to log in, for example. Returns an
    exit code only if there is none."""
    try:
        cli = find_cli(config.cli.path, os.environ)
        os.execv(cli, [str(cli), *words])
    except BackendUnavailable as fault:
        return _fail(EX_UNAVAILABLE, fault.message)
    except OSError as error:
        return _fail(EX_UNAVAILABLE, f"{cli}: {error.strerror}")


def status(options: argparse.Namespace, config: Config) -> int:
    """Show how the running daemon is. Returns an exit code."""
    return status_command(
        config, os.environ, url=options.url, watch=options.watch, as_json=options.json
    )


def demo(port: int | None) -> int:
    """Serve with the loopback model behind the real CLI, and ask one question. An exit code."""
    configure("auto", "warning", environ=os.environ)
    with Demo(os.environ) as show:
        config = show.config(port)
        return _guarded(config, show.environment, show)


def _guarded(
    config: Config,
    environment: Mapping[str, str],
    show: Demo | None,
    channels: Sequence[Channel] = (),
    load: Callable[[], Config] | None = None,
) -> int:
    """Take the lock and the port, run, and give both back."""
    log = get_logger("maxd")
    code = 0
    try:
        with Ledger(config.state_directory()) as ledger:
            listeners = _listen(config, environment, show)
            if not config.keys and (exposed := listeners.exposed):
                listeners.close()
                return _fail(EX_CONFIG, EXPOSED.format(address=exposed))
            try:
                trio.run(
                    _everything, config, environment, ledger, listeners, log, show, channels, load
                )
            except* Stopped:
                code = EX_INTERRUPTED
            finally:
                listeners.close()
    except StateError as error:
        return _fail(EX_TEMPFAIL, str(error))
    except PortTaken as error:
        return _fail(EX_UNAVAILABLE, f"{error}; choose another with --port or server.port.")
    except (SocketTaken, NotASocket) as error:
        return _fail(EX_UNAVAILABLE, str(error))
    except OSError as error:
        return _fail(EX_CANTCREAT, f"cannot start: {error.strerror or error}")
    return code


def _listen(config: Config, environment: Mapping[str, str], show: Demo | None) -> Listeners:
    try:
        return open_listeners(config.server, environment)
    except PortTaken:
        if show is None or show.port_is_wanted:
            raise
        return open_listeners(msgspec.structs.replace(config.server, port=0), {})


async def _everything(
    config: Config,
    environment: Mapping[str, str],
    ledger: Ledger,
    listeners: Listeners,
    log: FilteringBoundLogger,
    show: Demo | None,
    channels: Sequence[Channel],
    load: Callable[[], Config] | None,
) -> None:
    _raise_file_limit()
    for earlier in ledger.earlier:
        swept = await sweep_marked(earlier.id)
        log.warning("an earlier run did not end cleanly", processes_killed=len(swept))
    ledger.mark_swept()
    announcer = Announcer(environment)
    environment = {name: environment[name] for name in environment if name not in VARIABLES}
    where = listeners.where
    ring, quotas = KeyRing(config.keys), Quotas()
    front = partial(serve_http, config.server, listeners, version("maxd"), log, ring, quotas)

    def reconfigure(changed: Config) -> None:
        configure(changed.log.format, changed.log.level, environ=os.environ)
        ring.keys = changed.keys
        quotas.adapt(changed.keys)

    def load_again() -> Config:
        assert load is not None
        changed = load()
        if not changed.keys and (exposed := listeners.exposed):
            raise ConfigError(EXPOSED.format(address=exposed))
        return changed

    # Without a manager that hands the socket on, later requests are refused with a reason.
    settle_seconds = HANDOVER_SECONDS if listeners.handed_over else 0.0
    async with trio.open_nursery() as nursery:
        if show is not None:
            await nursery.start(show.serve_model)
            environment = show.environment
        on_serving = partial(_began, log, where) if show is None else partial(show.play, where)
        await run(
            config,
            environment,
            ledger.instance.id,
            log,
            front,
            announcer=announcer,
            settle_seconds=settle_seconds,
            channels=channels,
            load=None if load is None else load_again,
            observers=[KeyCosts(quotas)],
            on_config=reconfigure,
            on_serving=on_serving,
        )
        nursery.cancel_scope.cancel()


async def _began(log: FilteringBoundLogger, where: str) -> None:
    """Requests are answered."""
    # What there is by now stays. The search for garbage would go through all of it again some
    # hundred turns later, and nothing is served for the 50 ms that this takes.
    gc.freeze()
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
    service_command.add_parser(commands)
    key_command.add_parser(commands)
    doctor.add_parser(commands)
    trial = commands.add_parser("notify-test", help="send one notice through every channel")
    trial.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    add_parser(commands)
    commands.add_parser("claude", help="run the claude CLI that maxd uses, to log in for example")
    commands.add_parser("config", help="print all settings with their defaults, as TOML")
    return parser
