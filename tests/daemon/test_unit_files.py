"""The units: what systemd itself thinks of them, and what `maxd service` writes and removes."""

import os
import plistlib
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maxd.daemon.unit_files import Facts, Kind, UnitFile, is_ours, unit_files

ROOT = Path(__file__).parents[2]
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def facts(home: str = "/home/ann", **changes: object) -> Facts:
    # A user and a program that every machine has: verify looks for both.
    known: dict[str, object] = {
        "command": (sys.executable, "-m", "maxd.daemon", "serve"),
        "path": "/usr/local/bin:/usr/bin",
        "home": home,
        "config_home": f"{home}/.config",
        "user": "games",
        "group": "games",
        "admin": "/run/maxd-admin.sock",
    }
    return Facts(**(known | changes))  # type: ignore[arg-type]


def texts(kind: Kind, **changes: object) -> dict[str, str]:
    return {unit.name: unit.text for unit in unit_files(kind, facts(**changes))}  # type: ignore[arg-type]


@needs_systemd
@pytest.mark.parametrize("kind", ["systemd-user", "systemd-system"])
@pytest.mark.parametrize("socket", [True, False])
def test_systemd_finds_no_fault_in_them(tmp_path: Path, kind: Kind, socket: bool) -> None:
    paths = []
    for name, text in texts(kind, socket=socket).items():
        paths.append(tmp_path / name)
        paths[-1].write_text(text)
    manager = ["--user"] if kind == "systemd-user" else []
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *manager, *map(str, paths)],
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_a_system_service_is_well_locked_up(tmp_path: Path) -> None:
    unit = tmp_path / "maxd.service"
    unit.write_text(texts("systemd-system")["maxd.service"])
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    exposure = re.search(r"Overall exposure level for maxd.service: ([0-9.]+)", done.stdout)
    assert exposure is not None, done.stderr
    assert float(exposure[1]) <= 2.0


@pytest.mark.parametrize("kind", ["systemd-user", "systemd-system", "launchd"])
def test_nothing_is_left_to_be_filled_in(kind: Kind) -> None:
    for text in texts(kind).values():
        assert is_ours(text)
        assert not re.search("@[A-Z]+@", text)
        assert ".local/bin/maxd" not in text


def test_what_a_unit_must_have() -> None:
    for kind in ("systemd-user", "systemd-system"):
        units = texts(kind)
        lines = units["maxd.service"].splitlines()
        for line in (
            "Type=notify",
            "KillMode=mixed",
            "WatchdogSec=30",
            "RestartPreventExitStatus=78",
            "Wants=maxd.socket",
            "Environment=PATH=/usr/local/bin:/usr/bin",
            "SystemCallErrorNumber=EPERM",
        ):
            assert line in lines, kind
        assert "~@resources" not in "".join(line for line in lines if not line.startswith("#"))
        assert "ListenStream=127.0.0.1:3456" in units["maxd.socket"]
        assert "SocketMode=0600" in units["maxd-admin.socket"]


def test_paths_with_blanks_percents_and_quotes() -> None:
    command = ('/opt/my tools/100%/max"d', "serve", "--config", "/home/ann/$HOME.toml")
    service = texts("systemd-user", command=command)["maxd.service"]
    assert r'ExecStart="/opt/my tools/100%%/max\"d" serve --config /home/ann/$$HOME.toml' in service
    agent = plistlib.loads(texts("launchd", command=command)["maxd.plist"].encode())
    assert agent["ProgramArguments"] == list(command)
    for home in ("/home/ann\nExecStart=evil", "/home/a b"):
        with pytest.raises(ValueError, match="cannot be written"):
            unit_files("systemd-system", facts(home))


def test_the_files_of_the_repository_are_the_templates() -> None:
    for path in ("systemd/maxd.service", "systemd/maxd.socket", "launchd/maxd.plist"):
        assert (ROOT / path).read_text()
        assert (ROOT / path).resolve().parent == ROOT / "daemon/units"


class Home:
    """A user's home, and `maxd service` in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # The real one must not be asked from a test.
        tools = path / "tools"
        tools.mkdir()
        self.log = path / "systemctl.log"
        program = tools / "systemctl"
        program.write_text(f'#!/bin/sh\necho "$@" >> {self.log}\necho running\n')
        program.chmod(0o755)
        self.environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(path)}

    def service(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "maxd.daemon", "service", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def units(self) -> Path:
        return self.path / ".config/systemd/user"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    if sys.platform == "darwin":
        pytest.skip("this is about systemd")
    return Home(tmp_path)


def test_install_status_uninstall(home: Home) -> None:
    assert home.service("status").returncode == 1
    done = home.service("install")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("maxd.service", "maxd.socket"):
        assert f"wrote   {home.units / name}" in done.stdout
    assert done.stdout.endswith("loginctl enable-linger\n")
    asked = home.log.read_text().splitlines()
    assert asked[-1] == "--user enable --now maxd.socket maxd.service"
    assert "--user daemon-reload" in asked
    state = home.service("status")
    assert state.returncode == 0
    assert state.stdout.count("installed") == 2
    (home.units / "maxd.service").write_text("# written by maxd service install, long ago\n")
    assert "differs" in home.service("status").stdout
    done = home.service("uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(home.units.iterdir()) == []
    assert "nothing to remove" in home.service("uninstall").stdout


def test_somebody_elses_unit_is_kept(home: Home) -> None:
    home.units.mkdir(parents=True)
    (home.units / "maxd.service").write_text("[Service]\nExecStart=/bin/mine\n")
    assert "left" in home.service("uninstall").stdout
    assert "kept" in home.service("install", "--no-start").stdout
    assert "mine" in (home.units / "maxd.service.before-maxd").read_text()
    assert "--now" not in home.log.read_text()


def test_without_a_manager_it_says_what_to_run(home: Home) -> None:
    (home.path / "tools/systemctl").write_text("#!/bin/sh\necho offline\nexit 1\n")
    done = home.service("install", "--no-socket")
    assert done.returncode == 0
    assert "systemctl --user enable --now maxd.service" in done.stdout
    assert [path.name for path in home.units.iterdir()] == ["maxd.service"]


def test_a_system_service_needs_somebody_to_serve(home: Home) -> None:
    assert "--user NAME" in home.service("status", "--system").stderr
    assert "no user" in home.service("status", "--system", "--user", "no-such-one").stderr
    me = pwd.getpwuid(os.getuid()).pw_name
    assert "/etc/systemd/system" in home.service("status", "--system", "--user", me).stdout


def test_a_file_knows_its_name() -> None:
    assert UnitFile(Path("/a/maxd.service"), "").name == "maxd.service"
