"""The documentation of the settings, made of their definitions."""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby

from maxd.daemon.profile_settings import default_of
from maxd.daemon.settings import Setting, profile_settings, settings
from maxd.workers.profiles import BUILT_IN

MARKERS = ("<!-- settings -->", "<!-- /settings -->")
"""Between these lines of docs/configuration.md stands `markdown_table()`."""

PROFILE_MARKERS = ("<!-- profiles -->", "<!-- /profiles -->")
"""Between these lines of docs/configuration.md stands `profiles_table()`."""

# What is worth setting; the other fields are shown as they are in `agent`.
_PROFILE_EXAMPLE = {
    "base": "agent",
    "tools": ("Read", "Edit", "Bash"),
    "allow": ("Read", "Edit", "Bash(git *)"),
    "deny": ("Read(~/.ssh/**)",),
    "directory": "~/work",
    "directories": ("~/notes",),
    "confine": True,
}
_EXAMPLES = {
    "models": '# "gpt-4o" = "sonnet"',
    "keys": '# laptop = { hash = "…", max_concurrent = 4, requests_per_minute = 60 }',
}


def example_toml() -> str:
    """A configuration file with every setting, its meaning and, as a comment, its default.

    A description begins with `# `, a default with `#` and the key: what is copied and left
    alone follows the defaults of later versions.
    """
    lines = ["# maxd's configuration. Remove the # before a setting to change it."]
    for table, members in groupby(settings(), key=lambda setting: setting.table):
        lines += ["", f"[{table}]"]
        for setting in members:
            lines += [f"# {setting.description}", f"# Allowed: {setting.allowed}."]
            lines.append(
                _EXAMPLES[setting.table]
                if setting.key is None
                else f"#{setting.key} = {_toml(setting.default)}"
            )
    return "\n".join([*lines, "", *_profile_example()]) + "\n"


def profiles_table() -> str:
    """A Markdown table of the fields of a profile, for docs/configuration.md."""
    rows = [
        f"| field | {' | '.join(f'`{name}`' for name in BUILT_IN)} | meaning |",
        f"| --- {'| --- ' * len(BUILT_IN)}| --- |",
    ]
    for setting in profile_settings("work"):
        assert setting.key is not None
        defaults = [default_of(name, setting.key) for name in BUILT_IN]
        cells = ["" if value is None else f"`{_toml(value)}`" for value in defaults]
        rows.append(f"| `{setting.key}` | {' | '.join(cells)} | {setting.description} |")
    return "\n".join(rows) + "\n"


def _profile_example() -> Iterator[str]:
    yield "# A profile of your own; a field that is left out is as in its base. agent, chat and"
    yield "# openclaw exist: a table of their name changes them, and has no base."
    yield "# [profiles.work]"
    for setting in profile_settings("work"):
        assert setting.key is not None
        value = _PROFILE_EXAMPLE.get(setting.key, default_of("agent", setting.key))
        yield f"# # {setting.description} Allowed: {setting.allowed}."
        yield f"# {setting.key} = {_toml(value)}"


def markdown_table() -> str:
    """A Markdown table of every setting, for docs/configuration.md."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |", *map(_row, settings())]
    return "\n".join(rows) + "\n"


def _row(setting: Setting) -> str:
    default = "none" if setting.key is None else f"`{_toml(setting.default)}`"
    return f"| `{setting.path}` | {default} | {setting.description} |"


def _toml(value: object) -> str:
    """A default as TOML; JSON's notation is TOML's for what defaults are made of."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value)
