"""What the index does with a file that it cannot use, and what it keeps of it."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from maxd.daemon.state_file import MOST_SET_ASIDE
from tests.daemon.kept_index import NOW, conversation, kept_with, opened, set_aside


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "conversations.sqlite"


def another_kind(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE things (x)")
    connection.close()


def torn(path: Path) -> None:
    kept_with("")(path)
    os.truncate(path, 5000)


def scribbled(path: Path) -> None:
    kept_with("")(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\x55" * 4096)


def link(path: Path) -> None:
    (path.parent / "precious").write_bytes(b"precious")
    path.symlink_to("precious")


def link_beside(path: Path) -> None:
    kept_with("")(path)
    (path.parent / "precious").write_bytes(b"precious")
    path.with_name(path.name + "-wal").symlink_to("precious")


BAD: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"no database" * 1000),
    "short": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "torn": torn,
    "scribbled": scribbled,
    "another kind": another_kind,
    "later version": kept_with("PRAGMA user_version = 99"),
    "negative version": kept_with("PRAGMA user_version = -1"),
    "no table": kept_with("DROP TABLE conversations"),
    "no column": kept_with("ALTER TABLE conversations DROP COLUMN cost"),
    "wrong type": kept_with("UPDATE conversations SET turns = 'many' WHERE id = 'a'"),
    "not utf-8": kept_with("UPDATE conversations SET model = CAST(x'ff' AS TEXT)"),
    "folder": lambda path: path.mkdir(),
    "link": link,
    "link beside": link_beside,
    "pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_used_is_set_aside(path: Path, bad: str) -> None:
    BAD[bad](path)
    before = path.lstat()
    with opened(path) as index:
        assert index.set_aside
        assert index.load() == []
        index.save(conversation())
    (aside,) = set_aside(path)
    assert aside.name == f"{path.name}.set-aside-19720927T000000Z"
    assert aside.lstat().st_ino == before.st_ino
    precious = path.parent / "precious"
    assert not precious.exists() or precious.read_bytes() == b"precious"
    with opened(path) as index:
        assert index.set_aside is None
        assert index.load() == [conversation()]


def test_a_later_version_is_set_aside_unharmed(path: Path) -> None:
    kept_with("PRAGMA user_version = 99")(path)
    before = path.read_bytes()
    with opened(path) as index:
        assert index.set_aside == "made by a later version of maxd (schema 99)"
    (aside,) = set_aside(path)
    assert aside.read_bytes() == before


def test_the_newest_set_aside_are_kept(path: Path) -> None:
    for nth in range(MOST_SET_ASIDE + 3):
        path.write_text(f"no database {nth}")
        path.with_name(path.name + "-wal").write_text("no log")
        with opened(path, now=NOW + nth):
            pass
    assert [each.read_text() for each in set_aside(path)] == [
        f"no database {nth}" for nth in range(3, MOST_SET_ASIDE + 3)
    ]
    beside = [each for each in path.parent.iterdir() if each.name.endswith("Z-wal")]
    assert len(beside) <= MOST_SET_ASIDE


def test_a_folder_set_aside_is_never_emptied(path: Path) -> None:
    for nth in range(MOST_SET_ASIDE + 2):
        path.mkdir()
        (path / "precious").write_text("")
        with opened(path, now=NOW + nth):
            pass
        path.unlink()
    assert all((each / "precious").exists() for each in set_aside(path))


def test_the_log_of_a_file_that_is_gone_is_not_replayed(path: Path) -> None:
    with opened(path) as index:
        index.save(conversation("a"))
        wal = path.with_name(path.name + "-wal").read_bytes()
    path.unlink()
    path.with_name(path.name + "-wal").write_bytes(wal)
    with opened(path) as index:
        assert index.set_aside is None
        assert index.load() == []


def test_no_reason_tells_what_a_row_holds(path: Path) -> None:
    kept_with("UPDATE conversations SET session = CAST('secret' || x'ff' AS TEXT)")(path)
    with opened(path) as index:
        assert index.set_aside is not None
        assert "secret" not in index.set_aside
