"""The index of conversations as a file: what it keeps."""

import os
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from maxd.daemon.conversation import Conversation
from maxd.daemon.index import Changes, Index, Unstorable
from tests.daemon.kept_index import DAY, NOW, conversation, opened


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


def test_close_may_be_called_again(path: Path) -> None:
    index = Index(path)
    index.close()
    index.close()
