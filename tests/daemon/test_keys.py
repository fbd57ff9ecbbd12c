"""API keys: made, found, written down as hashes; and `maxd key` in a home of its own."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from maxd.daemon import key_file
from maxd.daemon.config import ConfigError
from maxd.daemon.keys import ApiKey, KeyRing, hash_of, new_key
from maxd.daemon.settings import Config


def a_key(text: str, **limits: int) -> ApiKey:
    return ApiKey(hash=hash_of(text.encode()), **limits)


def test_keys_are_long_and_never_the_same() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("maxd-") and len(key) >= 48 and key.isascii() for key in keys)


def test_a_key_is_found_by_itself_alone() -> None:
    ring = KeyRing({"one": a_key("first"), "two": a_key("second")})
    assert ring.find(b"first") == "one"
    assert ring.find(b"second") == "two"
    for wrong in (b"", b"First", b"first ", b"firs", hash_of(b"first").encode(), b"\xff"):
        assert ring.find(wrong) is None
    assert ring
    assert not KeyRing({})


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    keys = {"a.b": a_key("1", max_concurrent=2), "laptop": a_key("2", tokens_per_minute=10**6)}
    path = tmp_path / "new" / "keys.toml"
    key_file.write(path, keys)
    assert key_file.read(path) == keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key_file.with_key_file(Config(), path).keys == keys
    with pytest.raises(ConfigError, match="too"):
        key_file.with_key_file(Config(keys={"laptop": a_key("3")}), path)


@pytest.mark.parametrize(
    "text",
    [
        "laptop = 'maxd-secret'",
        "[laptop]\nhash = 'maxd-secret'",
        "[laptop]\nhash = 'maxd-secret",
        "[laptop]\n",
        "['no/name']\nhash = '" + "0" * 64 + "'",
        "[laptop]\nhash = '" + "0" * 64 + "'\nlimit = 3",
        "\0",
    ],
)
def test_a_file_of_another_form_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        key_file.read(path)
    assert "secret" not in str(caught.value)


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    key_file.write(path, {"laptop": a_key("1")})
    path.chmod(0o622)
    with pytest.raises(ConfigError, match="chmod 600"):
        key_file.read(path)
    assert key_file.read(tmp_path / "none.toml") == {}


def maxd(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "maxd.daemon", *words],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_new_list_revoke(tmp_path: Path) -> None:
    made = maxd(tmp_path, "key", "new", "laptop", "--max-concurrent", "2")
    assert made.returncode == 0
    key = made.stdout.strip()
    path = tmp_path / ".config/maxd/keys.toml"
    assert key_file.read(path) == {"laptop": a_key(key, max_concurrent=2)}
    assert key not in path.read_text()
    assert maxd(tmp_path, "key", "new", "laptop").returncode == 64
    listed = maxd(tmp_path, "key", "list")
    assert "laptop" in listed.stdout
    assert "at once 2" in listed.stdout
    assert key not in listed.stdout + listed.stderr
    assert maxd(tmp_path, "key", "revoke", "laptop").returncode == 0
    assert key_file.read(path) == {}
    assert maxd(tmp_path, "key", "revoke", "laptop").returncode == 64
    for wrong in ("", "a b", "../x", "-x" * 40):
        assert maxd(tmp_path, "key", "new", wrong).returncode != 0


def test_printed_for_the_configuration(tmp_path: Path) -> None:
    made = maxd(tmp_path, "key", "new", "laptop", "--print", "--requests-per-minute", "7")
    *table, key = made.stdout.splitlines()
    assert not (tmp_path / ".config/maxd/keys.toml").exists()
    config = tmp_path / "config.toml"
    config.write_text("\n".join(table))
    listed = maxd(tmp_path, "key", "list", "--config", str(config))
    assert "requests/min 7" in listed.stdout
    assert hash_of(key.encode()) in config.read_text()
    # Where a key stands in place of its hash, it is not repeated.
    config.write_text(f'[keys.laptop]\nhash = "{key}"\n')
    refused = maxd(tmp_path, "key", "list", "--config", str(config))
    assert refused.returncode == 78
    assert "keys is not shown" in refused.stderr
    assert key not in refused.stderr
