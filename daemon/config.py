"""The configuration in force: where each setting's value comes from, and whether it may stand.

Weakest first: the default, the file, the environment (`MAXD_<TABLE>_<KEY>`), the command line.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import platformdirs
from msgspec import inspect

from maxd.daemon.profile_settings import BadProfile
from maxd.daemon.settings import PREFIX, PROFILE_TABLES, Config, Setting, profile_settings, settings
from maxd.workers.profiles import NAME_PATTERN

__all__ = ["Config", "ConfigError", "default_file", "load"]


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one sentence for each thing to mend."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


_Found: TypeAlias = tuple[object, str]  # a value, and where it was found


def default_file() -> Path:
    """Where the configuration is looked for if no file is named."""
    return platformdirs.user_config_path("maxd") / "config.toml"


def load(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    *,
    not_settings: Collection[str] = (),
) -> Config:
    """The configuration in force.

    `path`: the file, which then must exist; None is `default_file()`, which need not.
    `overrides`: values of the command line by setting (`server.port`); None is "not given", and
    text is understood as in the environment. `not_settings` names variables that begin with
    `MAXD_` and are something else. Raises `ConfigError` with all that is wrong at once.
    """
    known = {setting.path: setting for setting in settings()}
    problems: list[str] = []
    found: dict[str, _Found] = {}
    found |= _from_file(path, known, problems)
    found |= _from_environ(environ, known, not_settings, problems)
    found |= _from_overrides(overrides, known, problems)
    tree: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = tree.setdefault(PROFILE_TABLES, {})
    for name, (value, where) in found.items():
        setting = known.get(name) or _of_profile(name)
        try:
            checked = _checked(setting, value)
        except (msgspec.ValidationError, ValueError):
            shown = "not shown" if setting.secret else _shown(value)
            problems.append(f"{where}: {name} is {shown}, but must be {setting.allowed}.")
            continue
        if setting.key is None:
            tree[setting.table] = checked
        elif name not in known:
            tables.setdefault(setting.table.partition(".")[2], {})[setting.key] = checked
        else:
            tree.setdefault(setting.table, {})[setting.key] = checked
    if problems:
        raise ConfigError(*problems)
    config = msgspec.convert(tree, Config)
    try:
        config.make_profiles()
    except BadProfile as bad:
        where = _first_place(found, bad)
        raise ConfigError(f"{where}{bad}") from None
    except ValueError as wrong:
        raise ConfigError(str(wrong)) from None
    return config


def _first_place(found: Mapping[str, _Found], bad: BadProfile) -> str:
    """Where the field at fault is, else where its table is."""
    table = f"profiles.{bad.profile}."
    places = [found[f"{table}{bad.field}"][1]] if f"{table}{bad.field}" in found else []
    places += [where for name, (_, where) in found.items() if name.startswith(table)]
    return f"{places[0]}: " if places else ""


def _of_profile(name: str) -> Setting:
    table, _, key = name.rpartition(".")
    profile = table.partition(".")[2]
    return next(each for each in profile_settings(profile) if each.key == key)


def _from_file(
    path: Path | None, known: Mapping[str, Setting], problems: list[str]
) -> dict[str, _Found]:
    file = path if path is not None else default_file()
    try:
        text = file.read_bytes().decode()
        document = tomllib.loads(text)
    except FileNotFoundError:
        if path is None:
            return {}
        raise ConfigError(f"{file}: there is no such file.") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text.") from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise ConfigError(f"{file}: is not TOML: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{file}: is nested too deeply.") from None

    found: dict[str, _Found] = {}
    tables = {setting.table for setting in known.values()}
    for table, content in document.items():
        if table not in tables:
            nearest = _nearest(table, tables)
            place = _place(file, text, table, None)
            problems.append(f"{place}: there is no table [{table}]; the nearest is [{nearest}].")
        elif table in known:
            found[table] = content, _place(file, text, table, None)
        elif not isinstance(content, dict):
            place = _place(file, text, "", table)
            problems.append(f"{place}: {table} must be a table, [{table}].")
        else:
            for key, value in content.items():
                name, place = f"{table}.{key}", _place(file, text, table, key)
                if table == "profiles" and isinstance(value, dict) and name not in known:
                    found |= _from_profile(key, value, file, text, problems)
                elif name in known:
                    found[name] = value, place
                else:
                    problems.append(f"{place}: {_unknown(name, known)}")
    return found


def _from_profile(
    profile: str, content: Mapping[str, object], file: Path, text: str, problems: list[str]
) -> dict[str, _Found]:
    table = f"profiles.{profile}"
    known = {setting.path: setting for setting in profile_settings(profile)}
    found: dict[str, _Found] = {}
    if not re.fullmatch(NAME_PATTERN, profile):
        place = _place(file, text, table, None)
        problems.append(
            f"{place}: {_shown(profile)} is no name for a profile: a small letter, then at most 31 "
            "small letters, digits, - and _."
        )
        return found
    for key, value in content.items():
        name, place = f"{table}.{key}", _place(file, text, table, key)
        if name in known:
            found[name] = value, place
        else:
            problems.append(f"{place}: {_unknown(name, known)}")
    if not content:
        # A table without a field: only its base can be missing.
        found.setdefault(f"{table}.allow", ([], _place(file, text, table, None)))
    return found


def _from_environ(
    environ: Mapping[str, str],
    known: Mapping[str, Setting],
    not_settings: Collection[str],
    problems: list[str],
) -> dict[str, _Found]:
    by_variable = {setting.variable: setting for setting in known.values()}
    found: dict[str, _Found] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in not_settings:
            continue
        if variable in by_variable:
            found[by_variable[variable].path] = _Text(text), f"environment variable {variable}"
        else:
            nearest = _nearest(variable, by_variable)
            problems.append(
                f"environment: there is no variable {variable}; the nearest is {nearest}."
            )
    return found


def _from_overrides(
    overrides: Mapping[str, object], known: Mapping[str, Setting], problems: list[str]
) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    for name, value in overrides.items():
        if name not in known:
            problems.append(f"command line: {_unknown(name, known)}")
        elif value is not None:
            found[name] = _Text(value) if isinstance(value, str) else value, "command line"
    return found


class _Text(str):
    """A value that came as text and has yet to be understood by the setting's type."""


def _checked(setting: Setting, value: object) -> object:
    """`value` as the setting's type has it; raises ValidationError or ValueError."""
    info = inspect.type_info(setting.annotation)
    if isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(value, _Text):
        value = _understood(info, str(value))
    # TOML knows inf and nan, and nan passes every bound.
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    return msgspec.convert(value, setting.annotation)


def _understood(info: inspect.Type, text: str) -> object:
    match info:
        case inspect.BoolType():
            return text == "true" if text in ("true", "false") else text
        case inspect.IntType():
            return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text
        case inspect.FloatType():
            return float(text) if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text) else text
        case inspect.VarTupleType():
            return [item.strip() for item in text.split(",") if item.strip()]
        case inspect.DictType():
            pairs = [item.partition("=") for item in text.split(",") if item.strip()]
            return {name.strip(): word.strip() for name, _, word in pairs}
        case _:
            return text


def _shown(value: object) -> str:
    """A refused value for an error message: short, and on one line."""
    text = _notation(value)
    return text if len(text) <= 100 else text[:100] + "…"


def _notation(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return repr(str(value) if isinstance(value, str) else value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_notation, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r} = {_notation(word)}' for key, word in value.items())}}}"
    return f"a {type(value).__name__}"


def _unknown(name: str, known: Mapping[str, Setting]) -> str:
    key = name.rpartition(".")[2]
    same_key = [other for other, setting in known.items() if setting.key == key]
    nearest = same_key[0] if same_key else _nearest(name, known)
    return f"there is no setting {name}; the nearest is {nearest}."


def _nearest(name: str, names: Collection[str]) -> str:
    # A cut: difflib takes time by the square of the length.
    return difflib.get_close_matches(name[:64], sorted(names), n=1, cutoff=0)[0]


def _place(file: Path, text: str, table: str, key: str | None) -> str:
    """`file:line` of a key (or of a table's header), or the file where it is written otherwise."""
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            here = header[1].strip("\"'")
            if key is None and here == table:
                return f"{file}:{number}"
        elif entry := re.match(r"\s*([^=#]+?)\s*=", line):
            written = entry[1].replace('"', "").replace("'", "").replace(" ", "")
            full = f"{here}.{written}" if here else written
            wanted = ".".join(part for part in (table, key) if part)
            if full == wanted or (key is None and full.startswith(f"{table}.")):
                return f"{file}:{number}"
    return str(file)
