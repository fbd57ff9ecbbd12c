"""What a worker may do: the answers to the CLI's questions for permission.

The CLI asks for every call of a tool (see profiles.command_line). The profile's rules answer: what
they deny is denied; where there are rules that allow, nothing else is allowed. The user's own deny
rules, where the profile reads their settings, hold besides.
"""

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from maxd.workers.functions import PREFIX
from maxd.workers.messages import Allow, ControlBody, Deny
from maxd.workers.profiles import Profile
from maxd.workers.rounds import STRUCTURED_OUTPUT
from maxd.workers.rules import (
    EDITORS,
    READERS,
    SHELLS,
    Resolve,
    Rule,
    Rules,
    parse_rule,
    paths_of,
)

# They wait for a person at a terminal; behind an API there is none.
NEEDS_A_PERSON = frozenset(("AskUserQuestion", "EnterPlanMode", "ExitPlanMode"))
# They make the CLI go on by itself after its answer, when nobody hears it any more.
COMES_LATER = frozenset(("ScheduleWakeup", "CronCreate", "Monitor"))

# They do nothing but give the answer its form, and look up what tools there are.
OF_THE_CLI = frozenset((STRUCTURED_OUTPUT, "ToolSearch"))

# A model can make up names without end.
_MOST_NAMES = 256


class Count(Struct):
    """How often a tool was allowed and denied."""

    allowed: int = 0
    denied: int = 0


class Decisions:
    """Counts what has been decided, by tool. Nothing of what the tools were asked for is kept."""

    def __init__(self) -> None:
        self._allowed: Counter[str] = Counter()
        self._denied: Counter[str] = Counter()

    def note(self, tool: str, *, allowed: bool) -> None:
        """Count one decision. Names beyond the first 256 are counted together, as `other`."""
        counts = self._allowed if allowed else self._denied
        if tool not in counts and len(self._allowed) + len(self._denied) >= _MOST_NAMES:
            tool = "other"
        counts[tool] += 1

    def by_tool(self) -> dict[str, Count]:
        """A snapshot, the tools in alphabetical order."""
        names = sorted({*self._allowed, *self._denied})
        return {name: Count(self._allowed[name], self._denied[name]) for name in names}


class Policy:
    """The rules of one profile. Raises BadRule for a profile whose rules cannot be understood."""

    def __init__(
        self,
        profile: Profile,
        decisions: Decisions | None = None,
        *,
        resolve: Resolve = os.path.realpath,
        home: str | None = None,
    ) -> None:
        self._profile = profile
        self._decisions = decisions
        self._resolve = resolve
        self._home = os.path.expanduser("~") if home is None else home
        self._deny = self._rules(profile.deny)
        self._allow = self._rules(profile.allow)

    def decide(self, question: ControlBody) -> Allow | Deny:
        """The answer to one `can_use_tool`. Nothing of a request can change it, only the profile.
        The model is told the reason of a denial; it names the rule and nothing of the input."""
        reason = self._reason_against(question)
        if self._decisions is not None:
            self._decisions.note(question.tool_name, allowed=reason is None)
        return Allow(question.input) if reason is None else Deny(reason)

    def _reason_against(self, question: ControlBody) -> str | None:
        tool, name = question.tool_name, self._profile.name
        if tool in NEEDS_A_PERSON:
            return "Nobody is at the terminal. Ask in the text of your answer instead."
        if tool in COMES_LATER:
            return "Nothing can be said after the answer. Do it now, or say what is left to do."
        given = _input(question)
        if given is None:
            return f"The profile {name} cannot tell what this call of {tool} would do."
        if (rule := self._deny.denies(tool, given)) is not None:
            return f"The profile {name} denies {rule}. Do not try to reach the same another way."
        if tool.startswith(PREFIX) or tool in OF_THE_CLI:
            # The client's own functions are run by the client, or are not.
            return None
        if tool.startswith("mcp__"):
            if self._profile.mcp == "none" and self._profile.browser == "off":
                return f"The profile {name} has no MCP servers."
        elif self._profile.tools in ("none", ()):
            return f"The profile {name} has no built-in tools."
        allowed = self._allow.allows(tool, given)
        if self._allow and allowed is None:
            return (
                f"The profile {name} allows only what its rules name, and not this use of {tool}."
            )
        return self._outside(tool, given, allowed) if self._profile.confine else None

    def _outside(self, tool: str, given: Mapping[str, Any], allowed: Rule | None) -> str | None:
        name = self._profile.name
        if tool in SHELLS and allowed is None:
            return f"The profile {name} is confined to its directories, which a shell is not."
        if tool not in READERS | EDITORS:
            return None
        paths = paths_of(given, self._profile.directory, self._home)
        inside = (self._profile.directory, *self._profile.directories)
        if paths and all(any(self._is_below(path, each) for each in inside) for path in paths):
            return None
        return f"The profile {name} is confined to {', '.join(inside)}."

    def _is_below(self, path: str, directory: str) -> bool:
        path, directory = self._resolve(path), self._resolve(directory)
        return path == directory or path.startswith(directory.rstrip("/") + "/")

    def _rules(self, texts: tuple[str, ...]) -> Rules:
        rules = tuple(map(parse_rule, texts))
        directory = self._profile.directory or os.curdir
        return Rules(rules, directory=directory, home=self._home, resolve=self._resolve)


def _input(question: ControlBody) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(question.input, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
