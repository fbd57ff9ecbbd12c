"""What can be wrong with maxd on a machine, and what mends it: one function for each thing.

None changes anything, but for a file that is written and removed again to see whether it can be.
"""

import errno
import http.client
import os
import re
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from maxd.daemon.memory import PER_WORKER
from maxd.daemon.settings import Config
from maxd.daemon.unit_files import UnitFile
from maxd.workers.cli import Login

Level: TypeAlias = Literal["ok", "warning", "problem"]

OLDEST_CLI: Final = "2.1.197"
"""The oldest version that the tests have been run with."""
# Three workers and a browser.
LEAST_MEMORY: Final = 3 * PER_WORKER
LEAST_DISK: Final = 200 * 2**20
LEAST_FILES: Final = 1024
# Before the first of these nobody had this program; after the second its certificates are old.
EARLIEST: Final = 1_735_689_600.0  # 2025-01-01
LATEST: Final = 2_366_841_600.0  # 2045-01-01
# With them set, the CLI does not use the login that the user sees in his terminal.
SHADOWING: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")
_ANSWER_SECONDS: Final = 3.0


class Result(Struct, frozen=True, kw_only=True):
    """What was found of one thing. `fix` is what to do; empty where all is well."""

    name: str
    level: Level
    found: str
    fix: str = ""


def configuration(problems: Sequence[str]) -> Result:
    """`problems` are those of the configuration, none if it could be loaded."""
    if not problems:
        return Result(name="configuration", level="ok", found="it can be read")
    return Result(
        name="configuration",
        level="problem",
        found=" ".join(problems),
        fix="Mend it in the place named; `maxd config` prints what is allowed.",
    )


def cli_version(version: str) -> Result:
    """Whether a CLI of this version is one that maxd knows."""
    if _numbers(version) >= _numbers(OLDEST_CLI):
        return Result(name="cli version", level="ok", found=version)
    return Result(
        name="cli version",
        level="problem",
        found=f"{version} is older than {OLDEST_CLI}, the oldest that maxd was tested with",
        fix="Run `claude update`, or install it anew.",
    )


def login(found: Login, now: float) -> Result:
    """Whether the CLI is logged in."""
    if found.state == "logged_out":
        return Result(
            name="login",
            level="problem",
            found="the CLI is logged out",
            fix="Run `maxd claude` and /login as the user of the service, or set "
            "CLAUDE_CODE_OAUTH_TOKEN to what `claude setup-token` prints.",
        )
    if found.expires_at is not None and found.expires_at <= now:
        return Result(
            name="login",
            level="problem",
            found="the login has expired",
            fix="Run `maxd claude` and /login as the user of the service.",
        )
    if found.state == "unknown":
        return Result(name="login", level="warning", found="this CLI does not tell", fix=_UPDATE)
    return Result(name="login", level="ok", found=f"logged in ({found.method or 'method unknown'})")


_UPDATE = "Run `claude update`."


def shadowing(environ: Mapping[str, str]) -> Result:
    """Whether something in the environment outranks the login."""
    names = [name for name in SHADOWING if environ.get(name)]
    if not names:
        return Result(name="environment", level="ok", found="nothing outranks the login")
    return Result(
        name="environment",
        level="warning",
        found=f"{' and '.join(names)} outranks the subscription's login",
        fix=f"Unless that is meant, remove {' and '.join(names)} from the service's environment.",
    )


def port(config: Config) -> Result:
    """Whether the address can be listened on, or is by maxd already."""
    host, number = config.server.host, config.server.port
    name = f"{host}:{number}"
    if number == 0:
        return Result(name="port", level="ok", found="any free port")
    try:
        info = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(info[0], socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(info[4])
    except OSError as error:
        if error.errno == errno.EADDRINUSE and is_maxd(host, number):
            return Result(name="port", level="ok", found=f"maxd answers on {name}")
        taken = error.errno == errno.EADDRINUSE
        return Result(
            name="port",
            level="problem",
            found=f"{name}: {'another program listens there' if taken else error.strerror}",
            fix=f"End that program (`ss -ltnp 'sport = :{number}'` names it), or choose another "
            "port in server.port."
            if taken
            else "Choose another address in server.host and server.port.",
        )
    return Result(name="port", level="ok", found=f"{name} is free")


def is_maxd(host: str, number: int) -> bool:
    """Whether maxd answers there."""
    connection = http.client.HTTPConnection(host, number, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/health", headers={"Host": "localhost"})
        reply = connection.getresponse()
        return reply.status == 200 and b'"version"' in reply.read(1000)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def exposure(config: Config) -> Result:
    """Whether it would start with this address and these keys."""
    if config.server.host in ("localhost", "::1") or config.server.host.startswith("127."):
        return Result(name="exposure", level="ok", found="it listens on loopback only")
    if config.keys:
        return Result(name="exposure", level="ok", found="other machines need an API key")
    return Result(
        name="exposure",
        level="problem",
        found=f"{config.server.host} can be reached from other machines and there is no API key: "
        "maxd does not start",
        fix="Make one with `maxd key new NAME`, or listen on 127.0.0.1 (server.host).",
    )


def directory(name: str, setting: str, path: Path) -> Result:
    """Whether `path` can be written, or made where it is missing, with room to spare."""
    fix = f"Give the user of the service write access to it, or choose another in {setting}."
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        if not existing.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{existing} is no directory")
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(4096))
            file.flush()
        free = shutil.disk_usage(existing).free
    except OSError as error:
        why = error.strerror or type(error).__name__
        if error.errno == errno.ENOSPC:
            fix = "Make room on its disk."
        return Result(name=name, level="problem", found=f"{path}: {why}", fix=fix)
    if free < LEAST_DISK:
        found = f"{path}: {free // 2**20} MB are free"
        return Result(name=name, level="warning", found=found, fix="Make room on its disk.")
    return Result(name=name, level="ok", found=f"{path} can be written")


def clock(now: float, newest_file: float) -> Result:
    """Whether the time can be right. `newest_file` is when this program was installed."""
    if EARLIEST <= now <= LATEST and now >= newest_file - 86400:
        return Result(name="clock", level="ok", found=time.strftime("%F %T UTC", time.gmtime(now)))
    return Result(
        name="clock",
        level="problem",
        found=f"it says {time.strftime('%F', time.gmtime(now))}, which cannot be: the service's "
        "certificates and the reset times of limits will seem wrong",
        fix="Set it: `sudo timedatectl set-ntp true`.",
    )


def memory(available: int) -> Result:
    """Whether there is memory for a few workers."""
    found = f"{available // 2**20} MB can be had, a worker takes {PER_WORKER // 2**20} MB"
    if available >= LEAST_MEMORY:
        return Result(name="memory", level="ok", found=found)
    return Result(
        name="memory",
        level="problem",
        found=found,
        fix="End other programs or give the service more, or set pool.max_workers = 1 and "
        'pool.warm = ["sonnet"].',
    )


def open_files() -> Result:
    """Whether enough descriptors may be open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= LEAST_FILES:
        return Result(name="open files", level="ok", found=f"at most {hard}")
    return Result(
        name="open files",
        level="warning",
        found=f"at most {hard}; a worker takes six and a client one",
        fix=f"Raise the limit: LimitNOFILE={LEAST_FILES} in the unit, or `ulimit -Hn`.",
    )


def units(wanted: Sequence[UnitFile]) -> Result:
    """Whether maxd is a service of this machine, with the files that would be written now."""
    missing = [unit for unit in wanted if not unit.path.exists()]
    if missing:
        return Result(
            name="service",
            level="warning",
            found=f"{missing[0].path} is missing: maxd does not start by itself",
            fix="Run `maxd service install`.",
        )
    if any(unit.path.read_text(errors="replace") != unit.text for unit in wanted):
        return Result(
            name="service",
            level="warning",
            found="the units differ from what would be written now",
            fix="Unless that is meant, run `maxd service install` again.",
        )
    return Result(name="service", level="ok", found=f"{wanted[0].path} is installed")


def installed_at() -> float:
    """When the newest file of this program was written, in epoch seconds."""
    return max(os.stat(path).st_mtime for path in Path(__file__).parent.glob("*.py"))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall("[0-9]+", version)[:3])
