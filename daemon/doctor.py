"""`maxd doctor`: finds what is wrong with maxd on this machine, and says what mends it."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from maxd.daemon import checks
from maxd.daemon.checks import Result
from maxd.daemon.config import ConfigError
from maxd.daemon.memory import available_memory
from maxd.daemon.service_command import facts, service_manager
from maxd.daemon.settings import Config
from maxd.daemon.unit_files import unit_files
from maxd.workers.cli import cli_version, find_cli, login_state
from maxd.workers.faults import BackendUnavailable
from maxd.workers.features import Finding, probe_features

SIGNS = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}


class Report(Struct, kw_only=True):
    """Everything that was looked at. `healthy` is whether there is no problem; a warning is none.
    `probes` is None where they were not run."""

    healthy: bool
    results: list[Result]
    probes: list[Finding] | None = None


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `doctor` command."""
    parser = commands.add_parser("doctor", help="find what is wrong, and what mends it")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--no-probes", action="store_true", help="do not try the CLI on the loopback model"
    )


def doctor(options: argparse.Namespace, load: Callable[[], Config]) -> int:
    """Look at everything and print it. Returns 0, or 1 if there is a problem."""
    problems: Sequence[str] = ()
    try:
        config = load()
    except ConfigError as error:
        # The rest is looked at with the defaults: there may be more to mend.
        problems, config = error.problems, Config()
    report = trio.run(examine, options, config, problems, os.environ)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        print("\n".join(render(report)))
    return 0 if report.healthy else 1


async def examine(
    options: argparse.Namespace,
    config: Config,
    problems: Sequence[str],
    environ: Mapping[str, str],
) -> Report:
    """All checks, and the probes if there is a CLI to try."""
    results = [checks.configuration(problems)]
    cli = await _examine_cli(config, environ, results)
    results += [
        checks.port(config),
        checks.exposure(config),
        checks.directory("state directory", "state.directory", config.state_directory()),
        checks.directory("data directory", "profiles.directory", config.working_directory()),
        checks.clock(time.time(), checks.installed_at()),
        checks.memory(available_memory()),
        checks.open_files(),
        _units(options, config),
    ]
    probes = None
    if cli is not None and not options.no_probes:
        if sys.stderr.isatty():
            print("trying the CLI on a model of this machine …", file=sys.stderr)
        probes = await probe_features(cli, environ)
    healthy = all(result.level != "problem" for result in results)
    # Without the first two nothing can be served; without the others maxd does something else.
    broken = [finding for finding in probes or () if not finding.passed]
    needed = [finding for finding in broken if finding.name in ("bind", "history")]
    return Report(healthy=healthy and not needed, results=results, probes=probes)


async def _examine_cli(
    config: Config, environ: Mapping[str, str], results: list[Result]
) -> Path | None:
    try:
        cli = find_cli(config.cli.path, environ)
        version = await cli_version(cli, environ)
    except BackendUnavailable as fault:
        results.append(
            Result(
                name="cli",
                level="problem",
                found=fault.message,
                fix="Install it with `curl -fsSL https://claude.ai/install.sh | bash`, or name "
                "the program in cli.path.",
            )
        )
        return None
    results.append(Result(name="cli", level="ok", found=str(cli)))
    results.append(checks.cli_version(version))
    results.append(checks.login(await login_state(cli, environ), time.time()))
    results.append(checks.shadowing(environ))
    return cli


def _units(options: argparse.Namespace, config: Config) -> Result:
    asked = argparse.Namespace(system=False, user=None, config=options.config, no_socket=False)
    try:
        return checks.units(unit_files(service_manager(False), facts(asked, config)))
    except (ValueError, LookupError, OSError) as error:
        return Result(
            name="service",
            level="warning",
            found=f"it cannot be told: {error}",
            fix="Run `maxd service status`.",
        )


def render(report: Report) -> list[str]:
    """The report as lines for a terminal."""
    lines = []
    for result in report.results:
        lines.append(f"{SIGNS[result.level]}  {result.name}: {result.found}")
        if result.fix:
            lines.append(f"         → {result.fix}")
    for finding in report.probes or ():
        if finding.passed:
            lines.append(f"{SIGNS['ok']}  probe {finding.name}")
        else:
            lines.append(f"{SIGNS['warning']}  probe {finding.name}: {finding.reason}")
            lines.append(
                f"         → This switches off {finding.switches_off}. "
                "Try another version of the CLI."
            )
    lines.append("No problem." if report.healthy else "There are problems.")
    return lines
