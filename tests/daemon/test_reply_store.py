"""The file of stored replies."""

import sqlite3
from pathlib import Path

import pytest

from maxd.daemon import reply_store
from maxd.daemon.reply_store import Keep, LineTooLong, ReplyStore, StoredReply
from maxd.daemon.state_file import FileUnusable

DAY = 86_400.0
EVERYTHING = Keep(days=30, count=1000, size=10**9)


class Clock:
    def __init__(self) -> None:
        self.now = 1000 * DAY

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replies.sqlite"


def reply(
    name: str, previous: str | None = None, *, scope: str = "me", size: int = 2
) -> StoredReply:
    return StoredReply(
        scope=scope, id=name, previous=previous, created=1.0, items=b"[]", body=b"x" * size
    )


def test_what_is_saved_is_there_after_a_restart(path: Path) -> None:
    store = ReplyStore(path)
    store.save([reply("a"), reply("b", "a")])
    store.close()
    again = ReplyStore(path)
    assert again.set_aside is None
    assert again.get("me", "b") == reply("b", "a")
    assert again.get("other", "b") is None
    assert path.stat().st_mode & 0o777 == 0o600
    again.close()


def test_a_line_goes_back_to_its_beginning(path: Path) -> None:
    store = ReplyStore(path)
    store.save([reply("a"), reply("b", "a"), reply("c", "b"), reply("x", "a")])
    assert [each.id for each in store.line("me", "c")] == ["c", "b", "a"]
    assert store.line("other", "c") == []
    assert store.delete("me", "b")
    assert not store.delete("me", "b")
    assert [each.id for each in store.line("me", "c")] == ["c"]
    store.close()


def test_a_line_has_a_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_store, "MOST_LINE_BYTES", 100)
    store = ReplyStore(path)
    store.save([reply("a", size=60), reply("b", "a", size=60)])
    assert len(store.line("me", "a")) == 1
    with pytest.raises(LineTooLong):
        store.line("me", "b")
    store.close()


def test_the_longest_unused_go_first(path: Path, clock: Clock) -> None:
    store = ReplyStore(path, clock=clock)
    for name in "abcd":
        clock.now += DAY
        store.save([reply(name, size=98)])
    clock.now += DAY
    store.line("me", "a")
    assert store.prune(EVERYTHING) == 0
    assert store.prune(Keep(days=2.5, count=1000, size=10**9)) == 1
    assert store.get("me", "b") is None
    assert store.prune(Keep(days=30, count=2, size=10**9)) == 1
    assert store.get("me", "c") is None
    assert store.prune(Keep(days=30, count=2, size=150)) == 1
    assert store.get("me", "d") is None
    assert store.get("me", "a") is not None
    store.close()


def test_what_is_deleted_is_not_in_the_file(path: Path) -> None:
    store = ReplyStore(path)
    canary = b"canary-4711" * 10
    kept = StoredReply(
        scope="me", id="a", previous=None, created=1.0, items=canary, body=b"x" * 100_000
    )
    store.save([kept])
    store.delete("me", "a")
    store.prune(EVERYTHING)
    store.close()
    assert canary not in path.read_bytes()
    assert not path.with_name(path.name + "-wal").exists()


def test_room_is_given_back(path: Path, clock: Clock) -> None:
    store = ReplyStore(path, clock=clock)
    store.save([reply(str(n), size=100_000) for n in range(20)])
    clock.now += 31 * DAY
    assert store.prune(EVERYTHING) == 20
    store.close()
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = ReplyStore(path)
    assert store.set_aside is not None
    store.save([reply("a")])
    assert store.get("me", "a") is not None
    store.close()
    assert len(list(path.parent.glob("replies.sqlite.set-aside-*"))) == 1


def test_a_file_of_a_later_version_is_set_aside(path: Path) -> None:
    ReplyStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = ReplyStore(path)
    assert "later version" in (store.set_aside or "")
    store.close()


def test_a_file_that_was_removed_takes_nothing(path: Path) -> None:
    store = ReplyStore(path)
    path.unlink()
    with pytest.raises(FileUnusable):
        store.save([reply("a")])
    store.close()
