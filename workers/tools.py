"""What is told of a call of a built-in tool: its name, and one line of what it was asked for."""

from typing import Any, Final

import msgspec

from maxd.workers.turn import ToolStarted

LONGEST: Final = 200
"""Characters of the line; a command or a path is known by less."""

# What says most, first.
_FIELDS = (
    "command",
    "file_path",
    "notebook_path",
    "path",
    "pattern",
    "url",
    "query",
    "description",
)


def started(name: str, given: msgspec.Raw) -> ToolStarted:
    """The event of a call of the tool `name` with the JSON `given`."""
    return ToolStarted(name, detail(given))


def detail(given: msgspec.Raw) -> str:
    """The first line of what says most of a tool's input, without control characters and cut at
    200 characters; empty where nothing does."""
    try:
        fields = msgspec.json.decode(given, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    words = next((word for key in _FIELDS if isinstance(word := fields.get(key), str) and word), "")
    lines = words.strip().splitlines() or [""]
    line = "".join(char if char.isprintable() else " " for char in lines[0])
    cut = len(line) > LONGEST or len(lines) > 1
    return line[:LONGEST] + "…" if cut else line
