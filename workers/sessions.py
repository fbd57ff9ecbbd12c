"""The CLI's own sessions on disk: where a transcript is, and whether it ends with a turn.

A transcript is a file of JSON lines, one per block of a message, among lines of other kinds. The
CLI resumes whatever it can read of one: where the end is missing it goes on without it, puts "No
response requested." in place of the lost answer and says nothing (2.1.197 and 2.1.330). So the
end is checked before a session is resumed.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct

from maxd.workers.cli import Login
from maxd.workers.faults import SessionLost

POLL_SECONDS: Final = 0.02
"""Between two looks at a file. It is not watched: each system has its own way, and not for every
disk."""

# One read finds the end of nearly every turn. What may stand after the last line of the model is
# a few hundred bytes with both versions seen.
FIRST_READ: Final = 16 * 1024
MOST_READ: Final = 1024 * 1024

# What the CLI lets a directory's name be long before it cuts it and adds a hash (2.1.197, 2.1.330).
NAME_LENGTH: Final = 200
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class Ending(Struct, frozen=True):
    """What the end of a transcript says.

    `line` is the id of the last line of the model, `message` that of the message (`msg_…`) it
    belongs to; None where there is none in what was read. `user_follows`: a message of the user or
    the result of a tool stands after it, so the last turn is not over. `torn`: the file ends within
    a line.
    """

    line: str | None
    message: str | None
    user_follows: bool
    torn: bool

    def is_at(self, line: str) -> bool:
        """Whether the transcript is whole, and ends with the turn whose last line is `line`."""
        return self.line == line and not self.user_follows and not self.torn


class _Message(Struct):
    id: str | None = None


class _Line(Struct, rename={"is_sidechain": "isSidechain"}):
    """A line of a transcript. Older versions keep subagents in the same file, as sidechains."""

    type: str
    uuid: str | None = None
    message: _Message | None = None
    is_sidechain: bool = False


_line = msgspec.json.Decoder(_Line)


def projects_directory(login: Login, environment: Mapping[str, str]) -> Path:
    """Where the transcripts of workers with `environment` are: as the CLI says, or where those
    that do not say it have been seen to keep them (2.1.197)."""
    if login.projects is not None and os.path.isabs(login.projects):
        return Path(login.projects)
    configured = environment.get("CLAUDE_CONFIG_DIR")
    home = Path(environment.get("HOME") or Path.home())
    return (Path(configured) if configured else home / ".claude") / "projects"


def transcript_path(projects: Path, working_directory: str, session: str) -> Path:
    """The file of the session `session` that was made in `working_directory`.

    `session` is checked by its pattern before it gets here. Asks the disk for what links in
    `working_directory` lead to, as the CLI does.
    """
    return projects / directory_name(os.path.realpath(working_directory)) / f"{session}.jsonl"


def directory_name(path: str) -> str:
    """What the CLI makes of the path of a working directory: each UTF-16 unit that is no ASCII
    letter or digit is a dash, and what is too long is cut and told apart by a hash."""
    data = path.encode("utf-16-le", "surrogatepass")
    units = [int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)]
    name = re.sub("[^a-zA-Z0-9]", "-", "".join(map(chr, units)))
    if len(name) <= NAME_LENGTH:
        return name
    code = 0
    for unit in units:
        code = (code * 31 + unit) & 0xFFFF_FFFF
    # JavaScript's numbers of 32 bits have a sign.
    return f"{name[:NAME_LENGTH]}-{_base36(min(code, 2**32 - code))}"


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def ending_of(tail: bytes) -> Ending:
    """What the last bytes of a transcript say. The first line may be cut: the end of a JSON object
    is no JSON, so it is passed over, like every line that is broken."""
    lines = tail.split(b"\n")
    # After the last newline there is nothing, or what a torn write has left.
    torn = bool(lines.pop())
    user_follows = False
    for line in reversed(lines):
        try:
            entry = _line.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if entry.is_sidechain:
            continue
        if entry.type == "assistant":
            message = None if entry.message is None else entry.message.id
            return Ending(entry.uuid, message, user_follows, torn)
        if entry.type == "user":
            user_follows = True
    return Ending(None, None, user_follows, torn)


def read_ending(path: Path) -> Ending | None:
    """The ending of the transcript at `path`; None if it cannot be read. Reads `MOST_READ` at most:
    where the last line of the model lies deeper, something else than a finished turn is at the
    end. Blocks for the disk."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = min(FIRST_READ, size)
            while True:
                file.seek(size - length)
                ending = ending_of(file.read(length))
                if ending.line is not None or ending.user_follows or length >= min(size, MOST_READ):
                    return ending
                length = min(length * 8, size, MOST_READ)
    except OSError:
        return None


async def wait_written(path: Path, line: str, deadline: float) -> bool:
    """Wait until the transcript at `path` ends with the turn whose last line is `line`, which it
    does up to 0.3 s after the turn's end. False if it does not by `deadline`, a time of trio's
    clock. Cancelling does no harm."""
    looked_at: tuple[int, int] | None = None
    with trio.move_on_at(deadline):
        while True:
            state = _state(path)
            if state is not None and state != looked_at:
                if await _is_at(path, line):
                    return True
                looked_at = state
            await trio.sleep(POLL_SECONDS)
    return False


async def check_resumable(path: Path, line: str) -> None:
    """Raises SessionLost unless the transcript at `path` is whole and ends with the turn whose
    last line is `line`. To be asked right before a worker is launched with `resume`."""
    if not await _is_at(path, line):
        raise SessionLost("the transcript of the session is gone, or does not end with its turn")


async def _is_at(path: Path, line: str) -> bool:
    ending = await trio.to_thread.run_sync(read_ending, path, abandon_on_cancel=True)
    return ending is not None and ending.is_at(line)


def _state(path: Path) -> tuple[int, int] | None:
    """What changes with every write. Not asked in a thread: it takes microseconds, a thread 20
    times that."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
