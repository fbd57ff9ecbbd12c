"""`maxd key new|list|revoke`: API keys, each shown once and kept as a hash."""

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from maxd.daemon import key_file
from maxd.daemon.config import ConfigError
from maxd.daemon.keys import NAME_PATTERN, ApiKey, hash_of, new_key
from maxd.daemon.settings import Config

EX_USAGE: Final = 64
_TAKES_EFFECT: Final = "It counts from the next start or reload (systemctl --user reload maxd)."


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `key` command."""
    parser = commands.add_parser("key", help="make, list and revoke API keys")
    parser.add_argument("action", choices=("new", "list", "revoke"))
    parser.add_argument("name", nargs="?", help="whose key it is; shown in logs and metrics")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    parser.add_argument("--max-concurrent", type=int, default=0, metavar="N")
    parser.add_argument("--requests-per-minute", type=int, default=0, metavar="N")
    parser.add_argument("--tokens-per-minute", type=int, default=0, metavar="N")
    parser.add_argument(
        "--print", action="store_true", help="write nothing; print the table for the configuration"
    )


def key(options: argparse.Namespace, config: Config) -> int:
    """Do what is asked. `config` has all keys, those of the file too. Returns an exit code."""
    path = key_file.key_file(options.config)
    if options.action == "list":
        return _list(config)
    if options.name is None or not re.fullmatch(NAME_PATTERN, options.name):
        return _refuse("a key needs a name: up to 64 letters, digits and . _ -")
    try:
        if options.action == "revoke":
            return _revoke(options.name, path)
        return _new(options, config, path)
    except ConfigError as error:
        return _refuse(str(error))
    except OSError as error:
        print(f"maxd: {path}: {error.strerror}", file=sys.stderr)
        return 1


def _new(options: argparse.Namespace, config: Config, path: Path) -> int:
    if options.name in config.keys:
        return _refuse(f"there is a key {options.name} already; revoke it or take another name")
    limits = ("max_concurrent", "requests_per_minute", "tokens_per_minute")
    if any(getattr(options, name) < 0 for name in limits):
        return _refuse("a limit is a number from 0 (none) up")
    secret = new_key()
    made = ApiKey(
        hash=hash_of(secret.encode()), **{name: getattr(options, name) for name in limits}
    )
    if options.print:
        print("# For the configuration:", key_file.table(options.name, made), sep="\n")
    else:
        key_file.write(path, {**key_file.read(path), options.name: made})
        print(f"Its hash is in {path}. {_TAKES_EFFECT}", file=sys.stderr)
    print("The key, which is shown this once:", file=sys.stderr)
    print(secret)
    return 0


def _list(config: Config) -> int:
    for name, made in sorted(config.keys.items()):
        limits = [
            f"{word} {value}"
            for word, value in (
                ("at once", made.max_concurrent),
                ("requests/min", made.requests_per_minute),
                ("tokens/min", made.tokens_per_minute),
            )
            if value
        ]
        print(f"{name:24} {', '.join(limits) or 'no limits'}")
    if not config.keys:
        print("no keys: on loopback every program of this machine is served", file=sys.stderr)
    return 0


def _revoke(name: str, path: Path) -> int:
    keys = key_file.read(path)
    if keys.pop(name, None) is None:
        return _refuse(
            f"there is no key {name} in {path}; one in the configuration is removed there"
        )
    key_file.write(path, keys)
    print(f"Revoked {name}. {_TAKES_EFFECT}", file=sys.stderr)
    return 0


def _refuse(reason: str) -> int:
    print(f"maxd: {reason}", file=sys.stderr)
    return EX_USAGE
