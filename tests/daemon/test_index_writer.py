"""Keeping the index from a thread: nothing waits for it, and nothing that was told is lost."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from maxd.daemon import index_writer
from maxd.daemon.index_writer import PRUNE_SECONDS
from tests.daemon.kept_index import DAY, NOW, conversation
from tests.daemon.kept_writer import Kept


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "index")


async def test_what_is_told_is_found_by_the_next_run(kept: Kept) -> None:
    async with kept.running() as found:
        assert found == []
        kept.writer.save_nowait(conversation("a", last_used=NOW - 1))
        kept.writer.save_nowait(conversation("b"))
        kept.writer.save_nowait(conversation("c"))
        kept.writer.delete_nowait("me", "c")
        assert kept.writer.waiting == 3
        await kept.writer.flush()
        assert kept.writer.waiting == 0
        assert kept.on_disk() == {"a": 1, "b": 1}
    again = Kept(kept.path)
    async with again.running() as found:
        assert found == [conversation("b"), conversation("a", last_used=NOW - 1)]
    assert kept.warnings == again.warnings == []


async def test_the_caller_may_go_on_to_change_what_it_told(kept: Kept) -> None:
    async with kept.running():
        mine = conversation(turns=1)
        kept.writer.save_nowait(mine)
        mine.turns = 2
        await kept.writer.flush()
        assert kept.on_disk() == {"a": 1}


async def test_of_each_conversation_only_the_newest_state_waits(kept: Kept) -> None:
    for turns in range(1000):
        kept.writer.save_nowait(conversation(str(turns % 3), turns=turns))
    assert kept.writer.waiting == 3
    async with kept.running():
        await kept.writer.flush()
        assert kept.on_disk() == {"0": 999, "1": 997, "2": 998}


async def test_what_waits_is_bounded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_writer, "MOST_WAITING", 10)
    for nth in range(100):
        kept.writer.save_nowait(conversation(str(nth)))
        kept.writer.delete_nowait("me", str(nth))
    kept.writer.save_nowait(conversation("last"))
    assert kept.writer.waiting == 10
    async with kept.running():
        await kept.writer.flush()
        assert kept.on_disk() == {"last": 1}


async def test_flush_with_nothing_told_returns(kept: Kept) -> None:
    await kept.writer.flush()


async def test_cancelling_writes_what_waits(kept: Kept) -> None:
    async with kept.running():
        for nth in range(100):
            kept.writer.save_nowait(conversation(str(nth)))
    assert len(kept.on_disk()) == 100
    assert kept.warnings == []


async def test_cancelling_in_the_midst_of_a_write_loses_nothing(kept: Kept) -> None:
    async with kept.running():
        for nth in range(100):
            kept.writer.save_nowait(conversation(str(nth)))
        await wait_all_tasks_blocked()  # the thread is at work
        kept.writer.save_nowait(conversation("0", turns=2))
        kept.writer.delete_nowait("me", "1")
    found = kept.on_disk()
    assert len(found) == 99
    assert found["0"] == 2
    assert kept.warnings == []


async def test_cancelling_while_it_opens_leaves_no_file_open(kept: Kept) -> None:
    kept.writer.save_nowait(conversation())
    with trio.CancelScope() as scope:
        scope.cancel()
        await kept.writer.run()
    # SQLite removes its log when the last connection is closed in good order.
    assert [each.name for each in kept.path.parent.iterdir()] == [kept.path.name]
    assert kept.on_disk() == {"a": 1}


async def test_it_prunes_at_the_start_and_every_hour(tmp_path: Path, mock_clock: MockClock) -> None:
    before = Kept(tmp_path / "index")
    async with before.running():
        for age in range(6):
            before.writer.save_nowait(conversation(str(age), last_used=NOW - age * DAY))
        await before.writer.flush()
    kept = Kept(tmp_path / "index", keep_days=3, keep_count=3)
    async with kept.running() as found:
        assert [each.id for each in found] == ["0", "1", "2"]
        kept.wall.now += 2 * DAY
        mock_clock.jump(PRUNE_SECONDS / 2)
        kept.writer.save_nowait(conversation("new", last_used=kept.wall.now))
        await kept.writer.flush()
        assert set(kept.on_disk()) == {"new", "0", "1", "2"}
        mock_clock.jump(PRUNE_SECONDS / 2)
        # Whether it wakes for the hour or for this, it prunes.
        kept.writer.delete_nowait("me", "none")
        await kept.writer.flush()
        assert set(kept.on_disk()) == {"new", "0", "1"}


names = st.sampled_from("abcd")
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("save"), names),
        st.tuples(st.just("delete"), names),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=25,
)


@given(happenings)
@settings(deadline=None, max_examples=50)
def test_it_keeps_what_a_dict_would(told: list[tuple[str, str | None]]) -> None:
    async def play(path: Path) -> None:
        model: dict[str, int] = {}
        turns = 0
        rounds: list[list[tuple[str, str | None]]] = [[]]
        for each in told:
            rounds[-1].append(each)
            if each[0] == "restart":
                rounds.append([])
        for each_round in rounds:
            kept = Kept(path)
            async with kept.running() as found:
                assert {each.id: each.turns for each in found} == model
                for what, name in each_round:
                    turns += 1
                    match what, name:
                        case "save", str():
                            model[name] = turns
                            kept.writer.save_nowait(conversation(name, turns=turns))
                        case "delete", str():
                            model.pop(name, None)
                            kept.writer.delete_nowait("me", name)
                        case "flush", _:
                            await kept.writer.flush()
                            assert kept.on_disk() == model
            assert kept.on_disk() == model
            assert kept.warnings == []

    with TemporaryDirectory() as directory:
        trio.run(play, Path(directory) / "index")
