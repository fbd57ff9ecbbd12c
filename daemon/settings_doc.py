"""The documentation of the settings, made of their definitions."""

import json
from collections.abc import Iterable
from itertools import groupby

from maxd.daemon.settings import Setting, settings

MARKERS = ("<!-- settings -->", "<!-- /settings -->")
"""Between these lines of README.md stands `markdown_table()`."""

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
    return "\n".join(lines) + "\n"


def markdown_table() -> str:
    """A Markdown table of every setting, for README.md."""
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
