"""`maxd doctor` finds planted faults and names what mends them."""

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maxd.daemon import checks
from maxd.daemon.checks import OLDEST_CLI, Result
from maxd.daemon.doctor import Report, doctor, render
from maxd.daemon.settings import Config
from maxd.workers.cli import Login
from maxd.workers.features import Finding

MAXD = (sys.executable, "-m", "maxd.daemon")
FAKE_CLI = str(Path(__file__).parents[1] / "fakes" / "fake_cli.py")


class Machine:
    """A home and an environment in which all is well, until a fault is planted."""

    def __init__(self, root: Path) -> None:
        self.home = root
        self.config = root / "config.toml"
        self.config.write_text("")
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "CLAUDE_CLI": FAKE_CLI,
            "MAXD_SERVER_PORT": str(port),
        }
        self.busy: list[socket.socket] = []
        self.service("install")

    def service(self, action: str) -> None:
        words = ["service", action, "--config", str(self.config)]
        # No manager is to be asked from a test.
        nowhere = {"XDG_RUNTIME_DIR": "/nonexistent", "DBUS_SESSION_BUS_ADDRESS": ""}
        subprocess.run(
            [*MAXD, *words],
            env=self.environment | nowhere,
            check=True,
            capture_output=True,
        )

    def doctor(self) -> tuple[int, dict[str, Any]]:
        """The exit code, and the results by name."""
        done = subprocess.run(
            [*MAXD, "doctor", "--json", "--no-probes", "--config", str(self.config)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        report = json.loads(done.stdout)
        assert report["healthy"] is (done.returncode == 0)
        return done.returncode, {each["name"]: each for each in report["results"]}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for sock in machine.busy:
        sock.close()


def test_where_all_is_well_there_is_nothing_to_mend(machine: Machine) -> None:
    code, results = machine.doctor()
    assert [each for each in results.values() if each["level"] != "ok"] == []
    assert code == 0


def wrong_setting(machine: Machine) -> None:
    machine.config.write_text("[pool]\nspare = 1\n")


def no_cli(machine: Machine) -> None:
    machine.environment["CLAUDE_CLI"] = str(machine.home / "gone")


def something_else(machine: Machine) -> None:
    machine.environment["CLAUDE_CLI"] = "/bin/true"


def old_cli(machine: Machine) -> None:
    machine.environment["FAKE_CLI_VERSION"] = "2.0.14"


def logged_out(machine: Machine) -> None:
    machine.environment["FAKE_CLI_AUTH"] = "logged_out"


def api_key(machine: Machine) -> None:
    machine.environment["ANTHROPIC_API_KEY"] = "sk-canary"


def port_taken(machine: Machine) -> None:
    # Bound and not listened on, so that whoever asks who is there is refused at once.
    sock = socket.socket()
    sock.bind(("127.0.0.1", int(machine.environment["MAXD_SERVER_PORT"])))
    machine.busy.append(sock)


def exposed(machine: Machine) -> None:
    machine.environment["MAXD_SERVER_HOST"] = "0.0.0.0"


def no_state(machine: Machine) -> None:
    (machine.home / "file").write_text("")
    machine.environment["MAXD_STATE_DIRECTORY"] = str(machine.home / "file/state")


def no_data(machine: Machine) -> None:
    machine.environment["MAXD_PROFILES_DIRECTORY"] = "/proc/maxd/work"


def not_installed(machine: Machine) -> None:
    machine.service("uninstall")


def open_keys(machine: Machine) -> None:
    path = machine.home / "keys.toml"
    path.write_text("")
    path.chmod(0o666)


@pytest.mark.parametrize(
    ("plant", "name", "level", "fix"),
    [
        (wrong_setting, "configuration", "problem", "maxd config"),
        (open_keys, "configuration", "problem", "Mend it"),
        (no_cli, "cli", "problem", "install.sh"),
        (something_else, "cli", "problem", "cli.path"),
        (old_cli, "cli version", "problem", "claude update"),
        (logged_out, "login", "problem", "/login"),
        (api_key, "environment", "warning", "remove ANTHROPIC_API_KEY"),
        (port_taken, "port", "problem", "server.port"),
        (exposed, "exposure", "problem", "maxd key new"),
        (no_state, "state directory", "problem", "state.directory"),
        (no_data, "data directory", "problem", "profiles.directory"),
        (not_installed, "service", "warning", "maxd service install"),
    ],
)
def test_the_fix_of_a_planted_fault_is_named(
    machine: Machine, plant: Callable[[Machine], None], name: str, level: str, fix: str
) -> None:
    plant(machine)
    code, results = machine.doctor()
    assert results[name]["level"] == level
    assert fix in results[name]["fix"]
    assert "canary" not in json.dumps(results)
    assert code == (1 if level == "problem" else 0)
    # Nothing else is called wrong that is not: but for what hangs together.
    others = {each for each, result in results.items() if result["level"] != "ok"} - {name}
    assert others <= {"service", "port"}


@pytest.mark.parametrize(
    ("result", "fix"),
    [
        (checks.clock(0.0, 1.7e9), "timedatectl"),
        (checks.clock(3e9, 1.7e9), "timedatectl"),
        (checks.clock(1.75e9, 1.76e9), "timedatectl"),
        (checks.memory(100 * 2**20), "max_workers"),
        (checks.login(Login(state="logged_in", expires_at=5.0), 6.0), "/login"),
        (checks.login(Login(state="unknown"), 6.0), "update"),
        (checks.cli_version("1.99.999"), "update"),
    ],
)
def test_what_cannot_be_planted_from_outside(result: Result, fix: str) -> None:
    assert result.level != "ok"
    assert fix in result.fix


def test_what_is_well() -> None:
    assert checks.clock(1.8e9, 1.7e9).level == "ok"
    assert checks.memory(2**32).level == "ok"
    assert checks.cli_version(OLDEST_CLI).level == "ok"
    assert checks.cli_version("3.0.0").level == "ok"
    assert checks.cli_version("2.1.1000-beta").level == "ok"
    assert checks.login(Login(state="logged_in"), 0).level == "ok"


def test_what_a_terminal_shows() -> None:
    found = [Finding("resume", False, "it hung", "agents forget")]
    lines = render(Report(healthy=True, results=[checks.memory(0)], probes=found))
    assert lines[0].startswith("PROBLEM  memory: 0 MB")
    assert lines[1].strip().startswith("→ End other programs")
    assert lines[2] == "warning  probe resume: it hung"
    assert "agents forget" in lines[3]


def test_with_the_probes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the CLI cannot be started, the probes say so one by one and maxd is not healthy."""
    cli = tmp_path / "claude"
    cli.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 2.1.330\nexit 1\n')
    cli.chmod(0o755)
    for name in ("HOME", "MAXD_STATE_DIRECTORY", "MAXD_PROFILES_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("CLAUDE_CLI", str(cli))
    options = argparse.Namespace(config=None, json=True, no_probes=False)
    assert doctor(options, Config) == 1
    probes = json.loads(capsys.readouterr().out)["probes"]
    assert {each["name"]: each["passed"] for each in probes} == dict.fromkeys(
        ("bind", "history", "functions", "schema", "resume", "reset"), False
    )
