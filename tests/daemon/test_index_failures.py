"""What goes wrong while the index is in use: kills, a full disk, other programs."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from maxd.daemon.index import Index
from maxd.daemon.state_file import FileUnusable
from tests.daemon.kept_index import conversation, opened, set_aside
from tests.scarcity import no_room

# Saves without end, and tells each that was acknowledged. Each third round deletes and prunes.
SAVES = """
import sys, pathlib
from itertools import count
from maxd.daemon.conversation import Conversation
from maxd.daemon.index import Index
print("opening", flush=True)
index = Index(pathlib.Path(sys.argv[1]))
first = max((each.turns for each in index.load()), default=0) + 1
for turns in count(first):
    name = str(turns % 50)
    if turns % 3 == 0:
        index.delete("me", "none")
        index.prune(10_000_000, 50)
    index.save(Conversation(id=name, scope="me", profile="agent", model="sonnet", root=b"r",
        head=b"h" * 16, created=0.0, last_used=float(turns), turns=turns))
    print(turns, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "conversations.sqlite"


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(path: Path) -> None:
    acknowledged: dict[str, int] = {}
    last = 0
    for nth in range(20):
        with subprocess.Popen(
            [sys.executable, "-c", SAVES, path], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            # At times while it opens the file, at times after many saves.
            lines = [process.stdout.readline() for _ in range(1 + 7 * nth % 40)]
            process.kill()
            lines += process.stdout
        assert lines[0] == "opening\n"
        assert process.returncode == -signal.SIGKILL
        for line in lines[1:]:
            last = int(line)
            acknowledged[str(last % 50)] = last
        with opened(path) as index:
            assert index.set_aside is None
            held = {each.id: each.turns for each in index.load()}
        assert all(held[name] >= turns for name, turns in acknowledged.items())
        assert max(held.values(), default=0) <= last + 1
    assert last > 20


def test_a_full_disk_is_an_error_and_leaves_what_was(path: Path) -> None:
    with opened(path) as index:
        index.save(conversation("a"))
        with no_room():
            for act in (
                lambda: index.save(conversation("b")),
                lambda: index.delete("me", "a"),
                lambda: index.prune(0, 0),
            ):
                with pytest.raises(FileUnusable) as caught:
                    act()
                assert caught.value.path == path
        assert index.load() == [conversation("a")]
        index.save(conversation("b"))
    with opened(path) as index:
        assert {each.id for each in index.load()} == {"a", "b"}


def test_a_full_disk_at_the_start_sets_nothing_aside(path: Path) -> None:
    with no_room(), pytest.raises(FileUnusable):
        Index(path)
    with opened(path) as index:
        index.save(conversation())
    with no_room(), pytest.raises(FileUnusable):
        Index(path)
    assert set_aside(path) == []
    with opened(path) as index:
        assert index.load() == [conversation()]


@pytest.mark.parametrize("where", ["missing/index", "file/index"])
def test_where_no_file_can_be_it_says_so(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileUnusable) as caught:
        Index(tmp_path / where)
    assert caught.value.path == tmp_path / where


def test_another_program_may_read_and_for_a_while_write(path: Path) -> None:
    with opened(path) as index:
        index.save(conversation("a"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM conversations").fetchone() == (1,)
        index.save(conversation("b"))
        other.execute("COMMIT")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FileUnusable, match="locked"):
            index.save(conversation("c"))
        other.execute("ROLLBACK")
        other.close()
        index.save(conversation("c"))
        assert len(index.load()) == 3


def test_a_file_removed_while_in_use_is_noticed(path: Path) -> None:
    with opened(path) as index:
        index.save(conversation("a"))
        path.unlink()
        with pytest.raises(FileUnusable, match="removed"):
            index.save(conversation("b"))
    with opened(path) as index:
        index.save(conversation("b"))
        assert [each.id for each in index.load()] == ["b"]
