"""`maxd service install|uninstall|status`: makes maxd a service of this machine's manager."""

import argparse
import grp
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from maxd.daemon.settings import Config
from maxd.daemon.unit_files import Facts, Kind, UnitFile, is_ours, unit_files

EX_USAGE: Final = 64
LINGERING: Final = Path("/var/lib/systemd/linger")
COMMAND_SECONDS: Final = 60.0
SOCKETS: Final = ("maxd.socket", "maxd-admin.socket")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `service` command."""
    parser = commands.add_parser("service", help="run maxd as a service of this machine")
    parser.add_argument("action", choices=("install", "uninstall", "status"))
    parser.add_argument(
        "--system", action="store_true", help="of the system's systemd, not of the user's"
    )
    parser.add_argument("--user", metavar="NAME", help="whom a system service runs as")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    parser.add_argument(
        "--no-socket", action="store_true", help="let maxd open its socket, not systemd"
    )
    parser.add_argument("--no-start", action="store_true", help="write the files, start nothing")


def service(options: argparse.Namespace, config: Config) -> int:
    """Do what is asked and say what was done. Returns an exit code."""
    kind = service_manager(options.system)
    try:
        wanted = unit_files(kind, facts(options, config))
        match options.action:
            case "install":
                code = _install(kind, wanted, start=not options.no_start)
                if kind == "systemd-user" and not _lingers():
                    print("It ends when you log out, unless you run: loginctl enable-linger")
                return code
            case "uninstall":
                return _uninstall(kind, wanted[0].path.parent)
            case _:
                return _status(kind, wanted)
    except (ValueError, LookupError) as error:
        print(f"maxd: {error}", file=sys.stderr)
        return EX_USAGE
    except OSError as error:
        hint = "; run it with sudo" if options.system and isinstance(error, PermissionError) else ""
        print(f"maxd: {error.filename}: {error.strerror}{hint}", file=sys.stderr)
        return 1


def service_manager(system: bool) -> Kind:
    """Whose service maxd is on this platform."""
    if sys.platform == "darwin":
        return "launchd"
    return "systemd-system" if system else "systemd-user"


def facts(options: argparse.Namespace, config: Config) -> Facts:
    """What the units are to say. Raises LookupError for a user that does not exist."""
    if options.system and not options.user and os.environ.get("SUDO_USER") is None:
        raise LookupError("--system needs --user NAME: maxd serves that person's login")
    name = options.user or (os.environ.get("SUDO_USER") if options.system else None)
    try:
        person = pwd.getpwnam(name) if name else pwd.getpwuid(os.getuid())
    except KeyError:
        raise LookupError(f"there is no user {name}") from None
    home = person.pw_dir if options.system else str(Path.home())
    host = config.server.host
    address = f"[{host}]" if ":" in host else "127.0.0.1" if host == "localhost" else host
    return Facts(
        command=(*maxd_command(), "serve", *_config_words(options.config)),
        path=_search_path(os.environ.get("PATH", "")),
        home=home,
        config_home=os.environ.get("XDG_CONFIG_HOME") or str(Path(home, ".config")),
        user=person.pw_name,
        group=grp.getgrgid(person.pw_gid).gr_name,
        address=f"{address}:{config.server.port}",
        # 0 is any free port: only maxd itself can choose one.
        socket=not options.no_socket and config.server.port != 0,
    )


def maxd_command() -> tuple[str, ...]:
    """The words that start this very installation, whatever the PATH of the service is."""
    script = Path(sys.executable).with_name("maxd")
    if script.is_file() and os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-m", "maxd.daemon")


def _config_words(config: Path | None) -> tuple[str, ...]:
    return () if config is None else ("--config", str(config.absolute()))


def _search_path(path: str) -> str:
    """Relative entries would depend on where the service runs."""
    return os.pathsep.join(part for part in path.split(os.pathsep) if os.path.isabs(part))


def _install(kind: Kind, wanted: Sequence[UnitFile], *, start: bool) -> int:
    for unit in wanted:
        if unit.path.exists() and not is_ours(unit.path.read_text(errors="replace")):
            kept = unit.path.with_name(unit.name + ".before-maxd")
            unit.path.replace(kept)
            print(f"kept    {kept}, which was not written by maxd")
        unit.path.parent.mkdir(parents=True, exist_ok=True)
        unit.path.write_text(unit.text)
        print(f"wrote   {unit.path}")
    names = [unit.name for unit in wanted]
    if kind == "launchd":
        commands = [["launchctl", "bootstrap", f"gui/{os.getuid()}", str(wanted[0].path)]]
    else:
        enable = ["enable", *(["--now"] if start else []), *names[1:], names[0]]
        commands = [_systemctl(kind, "daemon-reload"), _systemctl(kind, *enable)]
    return _run_all(kind, commands, start=start)


def _lingers() -> bool:
    """Whether this user's service manager runs without a login, too."""
    return (LINGERING / pwd.getpwuid(os.getuid()).pw_name).exists()


def _uninstall(kind: Kind, folder: Path) -> int:
    names = ["maxd.plist"] if kind == "launchd" else ["maxd.service", *SOCKETS]
    ours = []
    for path in (folder / name for name in names):
        if path.exists() and not is_ours(path.read_text(errors="replace")):
            print(f"left    {path}, which was not written by maxd")
        elif path.exists():
            ours.append(path)
    if not ours:
        print("nothing to remove")
        return 0
    if kind == "launchd":
        before, after = [["launchctl", "bootout", f"gui/{os.getuid()}/maxd"]], []
    else:
        before = [_systemctl(kind, "disable", "--now", *(path.name for path in ours))]
        after = [_systemctl(kind, "daemon-reload")]
    code = _run_all(kind, before, start=True)
    for path in ours:
        path.unlink()
        print(f"removed {path}")
    return max(code, _run_all(kind, after, start=True))


def _status(kind: Kind, wanted: Sequence[UnitFile]) -> int:
    missing = 0
    for unit in wanted:
        if not unit.path.exists():
            missing += 1
            print(f"missing   {unit.path}; run maxd service install")
        elif unit.path.read_text(errors="replace") == unit.text:
            print(f"installed {unit.path}")
        else:
            print(f"differs   {unit.path}: from what maxd service install would write now")
    if not missing and kind != "launchd" and manager_answers(kind):
        for unit in wanted:
            state = _run(_systemctl(kind, "is-active", unit.name)).stdout.strip()
            print(f"{unit.name} is {state or 'unknown'}")
    return 1 if missing else 0


def manager_answers(kind: Kind) -> bool:
    """Whether the service manager is there to be asked."""
    if kind == "launchd":
        return shutil.which("launchctl") is not None
    if shutil.which("systemctl") is None:
        return False
    # It fails too where a unit has failed ("degraded"), and says so; without a manager it says
    # "offline", or nothing.
    state = _run(_systemctl(kind, "is-system-running")).stdout.strip()
    return state not in ("", "offline", "unknown")


def _run_all(kind: Kind, commands: list[list[str]], *, start: bool) -> int:
    """Run them if there is a manager, else say what to run; stops at the first that fails."""
    if not commands:
        return 0
    if (kind == "launchd" and not start) or not manager_answers(kind):
        print("The service manager was not asked; when it runs:")
        for command in commands:
            print(f"    {' '.join(command)}")
        return 0
    for command in commands:
        done = _run(command)
        print(f"ran     {' '.join(command)}")
        if done.returncode:
            print(f"maxd: it failed: {done.stderr.strip() or done.returncode}", file=sys.stderr)
            return 1
    return 0


def _systemctl(kind: Kind, *words: str) -> list[str]:
    return ["systemctl", *(["--user"] if kind == "systemd-user" else []), *words]


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", type(error).__name__)
