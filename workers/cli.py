"""The claude CLI on this machine: where it is, which version, and whether it is logged in."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
import trio
from msgspec import Struct

from maxd.workers.faults import BackendUnavailable

NAME: Final = "claude"
VARIABLE: Final = "CLAUDE_CLI"
"""The environment variable that names the program, after the configuration."""

INSTALL_HINT: Final = (
    "Install it with `curl -fsSL https://claude.ai/install.sh | bash` or "
    "`npm install -g @anthropic-ai/claude-code`, or name it in the setting cli.path."
)

# `--version` and `auth status` take 0.2 to 0.4 s on an idle machine of two cores.
ANSWER_SECONDS: Final = 20.0
# SIGKILL takes milliseconds, unless the process hangs in the kernel.
KILL_SECONDS: Final = 5.0
# The longest answer seen has 400 bytes; something that is not the CLI may print for ever.
MAX_ANSWER: Final = 64 * 1024

# Below the home directory: the CLI's own installer, `claude migrate-installer`, then package
# managers by their default prefix. A service's PATH has none of them.
_BELOW_HOME = (
    ".local/bin",
    ".claude/local",
    ".claude/local/node_modules/.bin",
    ".npm-global/bin",
    ".npm/bin",
    ".bun/bin",
    ".yarn/bin",
    ".volta/bin",
    ".local/share/pnpm",
    "Library/pnpm",
    "node_modules/.bin",
)
_OF_THE_SYSTEM = (
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
    "/usr/bin",
    "/snap/bin",
)
_NVM = ".nvm/versions/node"

LoginState: TypeAlias = Literal["logged_in", "logged_out", "unknown"]


class Login(Struct, frozen=True, kw_only=True):
    """What the CLI says of its login. `unknown` is no reason to refuse work.

    `method` and `api_key_source` are the CLI's words. `expires_at` is in epoch seconds.
    `projects` is the directory of its transcripts, None where it does not tell (2.1.197).
    """

    state: LoginState
    method: str | None = None
    expires_at: float | None = None
    api_key_source: str | None = None
    projects: str | None = None


class _AuthStatus(Struct, rename="camel"):
    """The answer of `auth status --json`. All but `logged_in` may be of any form."""

    logged_in: bool
    auth_method: Any = None
    api_key_source: Any = None
    login_expires_at: Any = None
    projects_directory: Any = None


def bundled_cli() -> Path | None:
    """Where the installed `claude-agent-sdk` keeps its copy of the CLI; it is not imported."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "_bundled" / NAME


def find_cli(
    configured: str,
    environ: Mapping[str, str],
    *,
    bundled: Callable[[], Path | None] = bundled_cli,
) -> Path:
    """The CLI to start, not resolved: an update that changes the link is followed.

    In this order: `configured` and `CLAUDE_CLI`, which must be right if they are set; PATH; the
    places installers use; the copy of the SDK. Raises `BackendUnavailable` that says where it
    looked.
    """
    home = Path(environ.get("HOME") or Path.home())
    for source, named in (("The setting cli.path", configured), (VARIABLE, environ.get(VARIABLE))):
        if named:
            path = home / named[2:] if named.startswith("~/") else Path(named)
            if not path.is_absolute():
                raise BackendUnavailable(f"{source} must be an absolute path, not {named!r}.")
            if not _is_program(path):
                raise BackendUnavailable(f"{source} names {path}, which is no program to run.")
            return path

    # Not a relative entry: what lies in the current directory must never be run.
    on_path = [entry for entry in environ.get("PATH", "").split(os.pathsep) if os.path.isabs(entry)]
    if found := shutil.which(NAME, path=os.pathsep.join(on_path)) if on_path else None:
        return Path(found)
    looked = [*_usual_places(home), *filter(None, [bundled()])]
    for place in looked:
        if _is_program(place):
            return place
    raise BackendUnavailable(
        f"There is no {NAME} on PATH, and none in {', '.join(map(str, looked))}. {INSTALL_HINT}"
    )


async def cli_version(
    path: Path, env: Mapping[str, str], *, timeout_seconds: float = ANSWER_SECONDS
) -> str:
    """The version the CLI tells (`2.1.330`).

    Raises `BackendUnavailable` if it does not tell one: then it cannot be started at all.
    Cancellation and the deadline kill it.
    """
    answer = await _ask([str(path), "--version"], env, timeout_seconds)
    version = re.match(rb"\s*([0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]{0,32})", answer or b"")
    if version is None:
        raise BackendUnavailable(f"{path} does not tell its version; is it the {NAME} CLI?")
    return version[1].decode()


async def login_state(
    path: Path, env: Mapping[str, str], *, timeout_seconds: float = ANSWER_SECONDS
) -> Login:
    """The state of the login that workers started with `env` would use.

    No answer, or one that is not understood (a CLI without the command), is `unknown`.
    Cancellation and the deadline kill the CLI.
    """
    answer = await _ask([str(path), "auth", "status", "--json"], env, timeout_seconds)
    return parse_auth_status(answer or b"")


def parse_auth_status(answer: bytes) -> Login:
    """What `auth status --json` has printed. Its exit code (1 = logged out) adds nothing."""
    try:
        status = msgspec.json.decode(answer, type=_AuthStatus)
    except (msgspec.DecodeError, RecursionError):
        return Login(state="unknown")
    return Login(
        state="logged_in" if status.logged_in else "logged_out",
        method=_word(status.auth_method),
        expires_at=_epoch_seconds(status.login_expires_at),
        api_key_source=_word(status.api_key_source),
        projects=_word(status.projects_directory),
    )


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _usual_places(home: Path) -> Iterator[Path]:
    for below in _BELOW_HOME:
        yield home / below / NAME
    for directory in _OF_THE_SYSTEM:
        yield Path(directory, NAME)
    with suppress(OSError):  # no nvm
        versions = list((home / _NVM).iterdir())
        # The newest first; v9 is older than v22.
        versions.sort(key=lambda path: [int(n) for n in re.findall("[0-9]+", path.name)])
        for version in reversed(versions):
            yield version / "bin" / NAME


async def _ask(argv: list[str], env: Mapping[str, str], timeout_seconds: float) -> bytes | None:
    """What a short call prints, whatever its exit code; None if it cannot run or is not done in
    time. When this returns or is cancelled, nothing of the call's session is left."""
    with trio.move_on_after(timeout_seconds):
        try:
            process = await trio.lowlevel.open_process(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                # An update in the background would outlive the call.
                env={**env, "DISABLE_AUTOUPDATER": "1"},
                # A project's settings must not take part.
                cwd="/",
            )
        except OSError:
            return None
        assert process.stdout is not None
        try:
            answer = bytearray()
            async for part in process.stdout:
                answer += part
                if len(answer) > MAX_ANSWER:
                    return None
            return bytes(answer)
        finally:
            # After a good end too: it may have left something behind. It has not been waited
            # for, so the id still belongs to it and the signal reaches no stranger.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(deadline=trio.current_time() + KILL_SECONDS, shield=True):
                await process.wait()
                await process.stdout.aclose()
    return None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _epoch_seconds(value: object) -> float | None:
    """2.1.330 was only seen to print null; other dates of the CLI are milliseconds or ISO 8601."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        # 1e11 s is the year 5138, 1e11 ms was in 1973.
        return value / 1000 if value > 1e11 else float(value)
    return None
