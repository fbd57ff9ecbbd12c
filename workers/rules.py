"""Permission rules in the CLI's own notation, and which calls of tools they match.

`Bash`, `mcp__server`, `mcp__server__*`, `mcp__server__tool`: every call of the tool, or of the
server's tools. `Bash(git *)`: commands, `*` for anything; a `*` after a blank may also be nothing,
and `Bash(git:*)` is the same. `Read(~/src/**)`: files; `Edit(…)` is for all tools that change
files, `Read(…)` for all that read them. A path is absolute (`/etc/**`, and `//etc/**` as the CLI
has it), below the home directory, or relative to the working directory; `*` stays within a name,
`**` does not, and a directory stands for what is in it. `WebFetch(domain:*.example.com)`: hosts.
`Agent(name)`, `Skill(name)`: by name.

A rule that denies matches widely, one that allows narrowly. What a shell makes of a command cannot
be told from its text: a deny rule for commands is a fence, not a wall. To keep the model from
something, do not give it a shell, or allow exact commands only.
"""

import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

SHELLS: Final = frozenset(("Bash", "PowerShell", "Monitor"))
"""The tools whose input is a `command`."""

READERS: Final = frozenset(("Read", "Glob", "Grep", "LS"))
EDITORS: Final = frozenset(("Edit", "Write", "MultiEdit", "NotebookEdit"))
PATH_FIELDS: Final = ("file_path", "notebook_path", "path")

_RULE = re.compile(r"(?P<tool>[A-Za-z][A-Za-z0-9_-]{0,127}\*?)(?:\((?P<pattern>[^\0-\x1f]+)\))?")
# The older name of the same tool.
_SAME = {"Task": "Agent"}
# Where the shell begins another command, or runs one for its output.
_SHELL_PARTS = re.compile(r"[;&|()<>{}`\n\r]|\$\(")
# What comes before the command proper.
_BEFORE = re.compile(r"(?:\s|!|[A-Za-z_][A-Za-z0-9_]*=\S*\s)+")
_RUNNERS = frozenset(
    ("sudo", "env", "command", "exec", "nohup", "time", "xargs", "builtin", "nice")
)

Resolve = Callable[[str], str]
"""The path that one stands for, without links and `..`: os.path.realpath."""


class BadRule(ValueError):
    """A rule that would match nothing, or not what it seems to. The message says why."""


class Rule(Struct, frozen=True):
    """One rule: a tool, and what its input must look like if `pattern` is given."""

    tool: str
    pattern: str | None = None

    def __str__(self) -> str:
        return self.tool if self.pattern is None else f"{self.tool}({self.pattern})"


def parse_rule(text: str) -> Rule:
    """The rule that `text` is. Raises BadRule."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise BadRule("is not written as Tool or Tool(pattern)")
    tool, pattern = _SAME.get(match["tool"], match["tool"]), match["pattern"]
    if tool.endswith("*") and not tool.startswith("mcp__"):
        raise BadRule("has a * in the name of a tool that is not an MCP server's")
    if pattern is None or pattern == "*":
        return Rule(tool)
    known = tool in SHELLS | READERS | EDITORS | {"Agent", "Skill"}
    if tool == "WebFetch" and pattern.startswith("domain:"):
        known = True
    if not known:
        raise BadRule(f"has a pattern, which is not understood for {tool}")
    return Rule(tool, pattern)


class Rules:
    """The rules of one profile. `directory` is the working directory, `home` what `~` means."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        *,
        directory: str,
        home: str,
        resolve: Resolve = os.path.realpath,
    ) -> None:
        self._rules = rules
        self._directory = directory
        self._home = home
        self._resolve = resolve

    def __bool__(self) -> bool:
        return bool(self._rules)

    def denies(self, tool: str, given: Mapping[str, Any]) -> Rule | None:
        """The rule that matches the call if it is a rule that denies."""
        return next((rule for rule in self._rules if self._matches(rule, tool, given, True)), None)

    def allows(self, tool: str, given: Mapping[str, Any]) -> Rule | None:
        """The rule that matches the call if it is a rule that allows."""
        return next((rule for rule in self._rules if self._matches(rule, tool, given, False)), None)

    def _matches(self, rule: Rule, tool: str, given: Mapping[str, Any], wide: bool) -> bool:
        tool = _SAME.get(tool, tool)
        if not _is_tool(rule, tool, wide):
            return False
        if rule.pattern is None:
            return True
        if tool in SHELLS:
            command = given.get("command")
            if not isinstance(command, str):
                return wide
            return (
                denied_command(rule.pattern, command) if wide else _allowed(rule.pattern, command)
            )
        if tool in READERS | EDITORS:
            return self._matches_path(rule.pattern, given, wide)
        if tool == "WebFetch":
            return _matches_host(rule.pattern.removeprefix("domain:"), given.get("url"), wide)
        name = given.get("subagent_type" if tool == "Agent" else "skill")
        return fnmatch.fnmatchcase(name, rule.pattern) if isinstance(name, str) else wide

    def _matches_path(self, pattern: str, given: Mapping[str, Any], wide: bool) -> bool:
        paths = paths_of(given, self._directory, self._home)
        if not paths:
            return wide
        base, rest = _split(self._absolute(pattern))
        # Both sides without links: /data may lead to /mnt/data. A rule that denies also holds for
        # the path as it is written, and for where its own base only seems to lie.
        real = _glob(os.path.join(self._resolve(base), rest))
        found = [real.fullmatch(self._resolve(path)) for path in paths]
        if not wide:
            return all(found)
        written = _glob(os.path.join(base, rest))
        return any(found) or any(written.fullmatch(path) for path in paths)

    def _absolute(self, pattern: str) -> str:
        if pattern.startswith("/"):
            return "/" + pattern.lstrip("/")
        if pattern == "~" or pattern.startswith("~/"):
            return self._home + pattern[1:]
        return os.path.normpath(os.path.join(self._directory, pattern))


def paths_of(given: Mapping[str, Any], directory: str, home: str) -> tuple[str, ...]:
    """What a file tool may mean by its input: absolute paths, links unresolved; none where the
    input is of no known form. A tool that searches does so in the working directory.

    `link/..` is where it stands to some programs, and where the link leads to others: both.
    """
    path = next((given[name] for name in PATH_FIELDS if given.get(name) is not None), directory)
    pattern = given.get("pattern", "")
    if not isinstance(path, str) or not isinstance(pattern, str) or "\0" in path + pattern:
        return ()
    written = [path]
    if "/" in pattern or pattern.startswith("~"):
        # Of Glob, whose pattern may lead out of the path it is given. For Grep it is too strict.
        written.append(os.path.join(path, _split(pattern)[0]) if pattern[0] != "~" else pattern)
    paths = []
    for each in written:
        if each == "~" or each.startswith("~/"):
            each = home + each[1:]
        each = os.path.join(directory, each)
        paths += [each, os.path.normpath(each)]
    return tuple(dict.fromkeys(paths))


def _is_tool(rule: Rule, tool: str, wide: bool) -> bool:
    if rule.tool == tool:
        return True
    if rule.tool.startswith("mcp__"):
        # A server's name alone, or with a star, is all of its tools.
        prefix = rule.tool.removesuffix("*")
        star = prefix != rule.tool
        return tool.startswith(prefix if star else f"{prefix}__")
    if wide and rule.tool == "Bash":
        return tool in SHELLS
    if rule.pattern is not None and rule.tool == "Edit":
        return tool in EDITORS
    if rule.pattern is not None and rule.tool == "Read":
        # Denied reading, a file is not to be changed blindly either.
        return tool in READERS or (wide and tool in EDITORS)
    return False


def _allowed(pattern: str, command: str) -> bool:
    """Whether `command` is what `pattern` allows: exactly it or, where that has a `*`, one simple
    command that fits. With an operator of the shell it is more than one, and fits nothing."""
    if command == pattern:
        return True
    wild = _command_pattern(pattern)
    return wild is not None and is_simple(command) and bool(wild.fullmatch(command))


def denied_command(pattern: str, command: str) -> bool:
    """Whether `command`, or any that may be hidden in it, is what `pattern` denies."""
    wild = _command_pattern(pattern) or re.compile(re.escape(pattern))
    return any(wild.fullmatch(each) for each in _hidden(command))


def is_simple(command: str) -> bool:
    """Whether the shell runs one command and nothing besides: no operator, redirection or
    substitution outside of quotes in which they mean nothing, and no control character."""
    quote = ""
    at = 0
    while at < len(command):
        char, after = command[at], command[at + 1 : at + 2]
        if char < " " and char != "\t":
            return False
        if quote == "'":
            quote = "" if char == "'" else quote
        elif char == "\\":
            if not after or after < " ":
                return False
            at += 1
        elif char == "`" or (char == "$" and after and after in "([{"):
            return False
        elif quote:
            quote = "" if char == '"' else quote
        elif char in ";&|<>()" or (char == "$" and after and after in "'\""):
            # $'…' has escapes of its own, in which a quote may hide.
            return False
        elif char in "'\"":
            quote = char
        at += 1
    return not quote


def _command_pattern(pattern: str) -> re.Pattern[str] | None:
    """`pattern` as a regular expression; None where it has no `*`."""
    if pattern.endswith(":*"):
        pattern = pattern[:-2] + " *"
    if "*" not in pattern:
        return None
    tail = ""
    if pattern.endswith(" *"):
        pattern, tail = pattern[:-2], r"(?:\s.*)?"
    return re.compile(".*".join(map(re.escape, pattern.split("*"))) + tail, re.DOTALL)


def _hidden(command: str) -> Iterator[str]:
    """The command, and those that may be in it, each also without quotes, path and what runs it."""
    for part in (command, *_SHELL_PARTS.split(command)):
        part = _BEFORE.sub("", part, count=1) if _BEFORE.match(part) else part
        yield part.strip()
        words = re.sub(r"[\"'\\]", "", part).split()
        while words:
            yield " ".join(words)
            yield " ".join([os.path.basename(words[0]), *words[1:]])
            if os.path.basename(words[0]) not in _RUNNERS:
                break
            del words[0]
            while words and (words[0].startswith("-") or "=" in words[0]):
                del words[0]


def _split(pattern: str) -> tuple[str, str]:
    """A path pattern as the directory before its first `*` or `?`, and the rest."""
    names = pattern.split("/")
    for number, name in enumerate(names):
        if "*" in name or "?" in name:
            root = "/" if pattern.startswith("/") else ""
            return "/".join(names[:number]) or root, "/".join(names[number:])
    return pattern, ""


def _glob(pattern: str) -> re.Pattern[str]:
    pieces = {"**/": "(?:.*/)?", "/**": "(?:/.*)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(/\*\*$|\*\*/|\*\*|\*|\?)", pattern.rstrip("/") or "/")
    regex = "".join(pieces.get(part) or re.escape(part) for part in parts)
    # A directory stands for what is in it.
    return re.compile(f"{regex}(?:/.*)?" if regex != "/" else "/.*", re.DOTALL)


def _matches_host(pattern: str, url: object, wide: bool) -> bool:
    if not isinstance(url, str):
        return wide
    try:
        host = (urlsplit(url if "://" in url else f"https://{url}").hostname or "").rstrip(".")
    except ValueError:
        return wide
    pattern = pattern.lower()
    if fnmatch.fnmatchcase(host, pattern):
        return True
    return wide and host.endswith(f".{pattern}")
