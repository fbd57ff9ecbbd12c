"""What a service manager is given to run maxd: the units' texts, and where they belong.

Pure but for reading the templates, which are files that work as they stand for the usual place of
maxd; filling one in replaces those places by this machine's.
"""

import plistlib
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, TypeAlias

from msgspec import Struct

Kind: TypeAlias = Literal["systemd-user", "systemd-system", "launchd"]

USUAL_COMMAND: Final = "%h/.local/bin/maxd serve"
USUAL_ADDRESS: Final = "127.0.0.1:3456"
WRITTEN: Final = "written by maxd service install"
"""In the first line of each file that was: no other is overwritten or removed."""


class Facts(Struct, frozen=True, kw_only=True):
    """What the units have to say of this machine. `command` starts the daemon; `path` is its PATH,
    without which a CLI that is a script does not find its interpreter; `address` is what the
    socket unit listens on, as `host:port`, and `admin` the path of the operator's socket or empty.
    """

    command: tuple[str, ...]
    path: str
    home: str
    config_home: str
    user: str
    group: str
    address: str = USUAL_ADDRESS
    admin: str = ""
    socket: bool = True


class UnitFile(Struct, frozen=True):
    """A file to be written."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        return self.path.name


def unit_files(kind: Kind, facts: Facts) -> list[UnitFile]:
    """The files that make maxd a service of this manager. Raises ValueError for a path that
    cannot be written into a unit."""
    if kind == "launchd":
        folder = Path(facts.home, "Library/LaunchAgents")
        return [UnitFile(folder / "maxd.plist", _plist(facts))]
    if kind == "systemd-user":
        folder = Path(facts.config_home, "systemd/user")
        service = _template("maxd.service").replace(USUAL_COMMAND, _words(facts.command))
    else:
        folder = Path("/etc/systemd/system")
        service = _template("system/maxd.service").replace("@MAXD@ serve", _words(facts.command))
        for name, value in (("USER", facts.user), ("GROUP", facts.group)):
            service = service.replace(f"@{name}@", _plain(value))
        service = service.replace("@HOME@", _plain(facts.home))
    service = _after(service, "ExecReload=", f"Environment={_word('PATH=' + facts.path)}")
    if not facts.socket:
        return [UnitFile(folder / "maxd.service", _signed(service))]
    service = _after(service, "StartLimitBurst=", "Wants=maxd.socket\nAfter=maxd.socket")
    sockets = _template("maxd.socket").replace(USUAL_ADDRESS, _plain(facts.address))
    return [
        UnitFile(folder / "maxd.service", _signed(service)),
        UnitFile(folder / "maxd.socket", _signed(sockets)),
        *([_admin_socket(folder, facts.admin)] if facts.admin else []),
    ]


def is_ours(text: str) -> bool:
    """Whether this text was written by `unit_files`."""
    return WRITTEN in "\n".join(text.splitlines()[:4])


def _admin_socket(folder: Path, path: str) -> UnitFile:
    text = (
        "[Unit]\nDescription=Socket of maxd for its operator\n\n[Socket]\n"
        f"ListenStream={_plain(path)}\nSocketMode=0600\nFileDescriptorName=admin\n"
        "Service=maxd.service\nRemoveOnStop=yes\n\n[Install]\nWantedBy=sockets.target\n"
    )
    return UnitFile(folder / "maxd-admin.socket", _signed(text))


def _template(name: str) -> str:
    return files("maxd.daemon").joinpath("units", name).read_text()


def _signed(text: str) -> str:
    # The comment at a template's head is about writing it by hand.
    lines = text.splitlines(keepends=True)
    while lines and lines[0].startswith("#"):
        del lines[0]
    return f"# {WRITTEN}; it will be overwritten by the next.\n" + "".join(lines)


def _after(text: str, beginning: str, added: str) -> str:
    """`text` with a line behind the one that begins so."""
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(beginning))
    return "\n".join([*lines[: at + 1], added, *lines[at + 1 :]]) + "\n"


def _words(command: tuple[str, ...]) -> str:
    # In a command, $ begins a variable too.
    return " ".join(_word(part).replace("$", "$$") for part in command)


def _word(text: str) -> str:
    """One word of a unit file: % begins a specifier, quotes and backslashes are C's."""
    _refuse_control(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(sign in text for sign in " '\"\\;") else escaped


def _plain(text: str) -> str:
    """A value that systemd takes as it is but for specifiers."""
    _refuse_control(text)
    if any(sign in text for sign in " \"'\\:") and not text.rpartition(":")[2].isdecimal():
        raise ValueError(f"{text!r} cannot be written into a unit file; choose a plainer path")
    return text.replace("%", "%%")


def _refuse_control(text: str) -> None:
    if not text.isprintable():
        raise ValueError(f"{text!r} cannot be written into a unit file")


def _plist(facts: Facts) -> str:
    agent = plistlib.loads(_template("maxd.plist").encode())
    agent["ProgramArguments"] = list(facts.command)
    agent["EnvironmentVariables"] = {"PATH": facts.path}
    logs = str(Path(facts.home, "Library/Logs/maxd.log"))
    agent["StandardErrorPath"] = logs
    head, _, rest = plistlib.dumps(agent, sort_keys=False).decode().partition("\n")
    return f"{head}\n<!-- {WRITTEN} -->\n{rest}"
