"""The file that `maxd key` keeps beside the configuration: names, hashes and limits of API keys."""

import os
import stat
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from maxd.daemon.config import ConfigError, default_file
from maxd.daemon.keys import ApiKey, KeyName
from maxd.daemon.settings import Config

NAME: Final = "keys.toml"
_HEAD: Final = "# Written by maxd key. It holds hashes; the keys themselves are kept nowhere.\n"


def key_file(config_file: Path | None) -> Path:
    """Where it lies, for a configuration file (None is the default one)."""
    return (config_file or default_file()).with_name(NAME)


def with_key_file(config: Config, path: Path) -> Config:
    """`config` with the keys of the file too. Raises ConfigError."""
    keys = read(path)
    both = sorted(set(keys) & set(config.keys))
    if both:
        raise ConfigError(f"{path}: {both[0]} stands in the configuration too; remove one of them.")
    return msgspec.structs.replace(config, keys={**config.keys, **keys})


def read(path: Path) -> dict[str, ApiKey]:
    """The keys of the file; none if there is no such file. Raises ConfigError for a file that is
    not of this form, or that others may write."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(2**20).decode()
        if stat.S_IMODE(mode) & 0o022:
            raise ConfigError(f"{path}: others may write it; run chmod 600 on it.")
        return msgspec.convert(tomllib.loads(text), dict[KeyName, ApiKey])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        # Never what it holds: it may be a key in the wrong place.
        raise ConfigError(
            f"{path}: is not as maxd key writes it: a table for each key, with its hash."
        ) from None


def write(path: Path, keys: Mapping[str, ApiKey]) -> None:
    """Replace the file, so that a reader finds the old one or the new one; for this user alone.
    Raises OSError."""
    new = path.with_name(NAME + ".new")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        new.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, 0o600), "w") as file:
        file.write(_HEAD + "".join(f"\n{table(name, key, '')}" for name, key in keys.items()))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def table(name: str, key: ApiKey, parent: str = "keys.") -> str:
    """The key as a table of TOML. A name with a dot is quoted."""
    quoted = f'"{name}"' if "." in name else name
    lines = [f"[{parent}{quoted}]", f'hash = "{key.hash}"']
    for field in ("max_concurrent", "requests_per_minute", "tokens_per_minute"):
        if value := getattr(key, field):
            lines.append(f"{field} = {value}")
    return "\n".join(lines) + "\n"
