"""The index of conversations as a file: what it keeps, and what it survives."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from maxd.daemon.conversation import Conversation
from maxd.daemon.index import Changes, Index, Unstorable
from maxd.daemon.state_file import MOST_SET_ASIDE, FileUnusable

DAY = 86_400.0
NOW = 1_000 * DAY

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


def conversation(
    name: str = "a", *, scope: str = "me", last_used: float = NOW, turns: int = 1
) -> Conversation:
    return Conversation(
        id=name,
        scope=scope,
        profile="agent",
        model="sonnet",
        root=b"root",
        head=b"\x00head\xff",
        created=NOW,
        last_used=last_used,
        turns=turns,
    )


@contextmanager
def opened(path: Path, *, now: float = NOW) -> Iterator[Index]:
    index = Index(path, clock=lambda: now)
    try:
        yield index
    finally:
        index.close()


@contextmanager
def no_room() -> Iterator[None]:
    """No file can grow: it stands for the full disk, the same failure of the same calls."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def set_aside(path: Path) -> list[Path]:
    return sorted(
        each
        for each in path.parent.iterdir()
        if each.name.startswith(f"{path.name}.set-aside-") and each.name.endswith("Z")
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "conversations.sqlite"


def test_what_is_saved_is_there_after_a_restart_the_last_used_first(path: Path) -> None:
    full = Conversation(
        id="x\0é\U0001f600",
        scope="",
        profile="chat",
        model="opus[1m]",
        root=bytes(range(256)),
        head=b"",
        created=0.1,
        last_used=NOW + 0.123456789,
        turns=3,
        input_tokens=2**62,
        output_tokens=5,
        cost=0.1 + 0.2,
        context_tokens=6,
        context_window=7,
        session="8",
        session_directory="/a b",
    )
    with opened(path) as index:
        assert index.set_aside is None
        assert index.load() == []
        index.save(conversation("old", last_used=NOW - 1))
        index.save(full)
        index.save(conversation("newest", last_used=NOW + 1))
    with opened(path) as index:
        assert index.set_aside is None
        assert index.load() == [
            conversation("newest", last_used=NOW + 1),
            full,
            conversation("old", last_used=NOW - 1),
        ]


def test_the_newest_state_replaces_the_one_before(path: Path) -> None:
    with opened(path) as index:
        index.save(conversation(turns=1))
        index.save(conversation(scope="other", turns=7))
        index.save(conversation(turns=2))
        assert {each.scope: each.turns for each in index.load()} == {"me": 2, "other": 7}
        index.delete("me", "a")
        index.delete("me", "a")
        assert [each.scope for each in index.load()] == ["other"]


def test_prune_forgets_what_is_old_and_what_is_too_many(path: Path) -> None:
    with opened(path) as index:
        for age in range(10):
            index.save(conversation(str(age), last_used=NOW - age * DAY))
        assert index.prune(6, 100) == 3
        assert index.prune(6, 5) == 2
        assert index.prune(6, 5) == 0
        assert [each.id for each in index.load()] == ["0", "1", "2", "3", "4"]


def test_only_the_user_can_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(path) as index:
            index.save(conversation())
            files = list(path.parent.iterdir())
            assert {each.name.removeprefix(path.name) for each in files} == {"", "-wal", "-shm"}
            assert {each.stat().st_mode & 0o777 for each in files} == {0o600}
        path.chmod(0o666)
        with opened(path) as index:
            assert path.stat().st_mode & 0o777 == 0o600
            assert len(index.load()) == 1
    finally:
        os.umask(before)


def test_the_columns_are_the_fields(path: Path) -> None:
    """A field that Conversation gains needs a step, and a step a field."""
    Index(path).close()
    connection = sqlite3.connect(path)
    columns = {row[1] for row in connection.execute("PRAGMA table_info(conversations)")}
    connection.close()
    assert columns == set(Conversation.__struct_fields__)


names = st.tuples(st.sampled_from(["", "me", "é"]), st.sampled_from(["a", "b", "c", "d\0"]))
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
number = st.integers(0, 2**63 - 1)
moment = st.integers(0, 40).map(lambda days: NOW - days * DAY / 2)
states = st.builds(
    Conversation,
    id=text,
    scope=text,
    profile=text,
    model=text,
    root=st.binary(max_size=16),
    head=st.binary(max_size=16),
    created=st.floats(allow_nan=False),
    last_used=moment,
    turns=number,
    input_tokens=number,
    output_tokens=number,
    cost=st.floats(allow_nan=False),
    context_tokens=number,
    context_window=number,
    session=st.none() | text,
    session_directory=st.none() | text,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("save"), names, states),
        st.tuples(st.just("delete"), names, st.none()),
        st.tuples(st.just("apply"), st.dictionaries(names, st.none() | states), st.none()),
        st.tuples(st.just("prune"), st.integers(0, 20), st.integers(0, 8)),
        st.tuples(st.just("restart"), st.none(), st.none()),
    ),
    max_size=30,
)


def named(name: tuple[str, str], state: Conversation) -> Conversation:
    return structs.replace(state, scope=name[0], id=name[1])


def newest_first(model: dict[tuple[str, str], Conversation]) -> list[Conversation]:
    return sorted(model.values(), key=lambda each: (-each.last_used, each.scope, each.id))


@given(steps)
@settings(deadline=None)
def test_it_holds_what_a_dict_would(happenings: list[tuple[str, object, object]]) -> None:
    model: dict[tuple[str, str], Conversation] = {}
    with TemporaryDirectory() as directory:
        path = Path(directory) / "index"
        index = Index(path, clock=lambda: NOW)
        for happening in happenings:
            match happening:
                case ("save", (str(scope), str(name)), Conversation() as state):
                    model[scope, name] = named((scope, name), state)
                    index.save(model[scope, name])
                case ("delete", (str(scope), str(name)), None):
                    model.pop((scope, name), None)
                    index.delete(scope, name)
                case ("apply", dict(changes), None):
                    told: Changes = {
                        key: None if state is None else named(key, state)
                        for key, state in changes.items()
                    }
                    index.apply(told)
                    kept = {**model, **told}
                    model = {key: state for key, state in kept.items() if state is not None}
                case ("prune", int(days), int(count)):
                    young = {
                        key: each
                        for key, each in model.items()
                        if each.last_used >= NOW - days * DAY
                    }
                    left = newest_first(young)[:count]
                    assert index.prune(days, count) == len(model) - len(left)
                    model = {(each.scope, each.id): each for each in left}
                case ("restart", None, None):
                    index.close()
                    index = Index(path, clock=lambda: NOW)
                    assert index.set_aside is None
                case _:
                    raise NotImplementedError(happening)
            assert index.load() == newest_first(model)
        index.close()


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


def kept_with(statement: str) -> Callable[[Path], None]:
    """An index with two conversations, and then that done to it."""

    def make(path: Path) -> None:
        with opened(path) as index:
            index.save(conversation("a"))
            index.save(conversation("b"))
        connection = sqlite3.connect(path)
        connection.executescript(statement)
        connection.close()

    return make


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


@pytest.mark.parametrize(
    "change",
    [
        {"session_directory": "/\udcff"},
        {"turns": 2**64},
        {"cost": float("nan")},
        {"turns": 1.5},
        {"head": "text"},
    ],
    ids=str,
)
def test_what_no_file_can_hold_is_refused_alone(path: Path, change: dict[str, object]) -> None:
    bad = structs.replace(conversation("bad"), **change)
    with opened(path) as index:
        with pytest.raises(Unstorable) as caught:
            index.apply({("me", "a"): conversation("a"), ("me", "bad"): bad})
        assert caught.value.name == ("me", "bad")
        assert index.load() == []
        index.save(conversation("a"))
    with opened(path) as index:
        assert index.load() == [conversation("a")]


def test_no_reason_tells_what_a_row_holds(path: Path) -> None:
    kept_with("UPDATE conversations SET session = CAST('secret' || x'ff' AS TEXT)")(path)
    with opened(path) as index:
        assert index.set_aside is not None
        assert "secret" not in index.set_aside


def test_close_may_be_called_again(path: Path) -> None:
    index = Index(path)
    index.close()
    index.close()
