"""Keeping the index from a thread: nothing waits for it, and nothing that was told is lost."""

import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TYPE_CHECKING

import pytest
import structlog
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import LogCapture
from trio.testing import MockClock, wait_all_tasks_blocked

from maxd.daemon import index_writer
from maxd.daemon.conversation import Conversation
from maxd.daemon.index import Index
from maxd.daemon.index_writer import PRUNE_SECONDS, IndexWriter
from maxd.daemon.store_thread import END_SECONDS, RETRY_SECONDS

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

DAY = 86_400.0
NOW = 1_000 * DAY


class Wall:
    """The clock on the wall, in epoch seconds. Unless it `goes`, the thread that reads it hangs, as
    one does that waits for a disk."""

    def __init__(self) -> None:
        self.now = NOW
        self.goes = Event()
        self.goes.set()

    def __call__(self) -> float:
        assert self.goes.wait(60)
        return self.now


class Kept:
    """A writer with its log, over one file."""

    def __init__(self, path: Path, *, keep_days: float = 30, keep_count: int = 100) -> None:
        self.path = path
        self.wall = Wall()
        self._capture = LogCapture()
        log: FilteringBoundLogger = structlog.wrap_logger(None, processors=[self._capture])
        self.writer = IndexWriter(
            path,
            log,
            keep_days=keep_days,
            keep_count=keep_count,
            clock=self.wall,
        )

    @property
    def warnings(self) -> list[str]:
        return [
            entry["event"] for entry in self._capture.entries if entry["log_level"] == "warning"
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[list[Conversation]]:
        """Run the writer; gives what it has found."""
        async with trio.open_nursery() as nursery:
            yield await nursery.start(self.writer.run)
            nursery.cancel_scope.cancel()

    def on_disk(self) -> dict[str, int]:
        index = Index(self.path)
        found = {each.id: each.turns for each in index.load()}
        index.close()
        return found


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "index")


def conversation(name: str = "a", *, last_used: float = NOW, turns: int = 1) -> Conversation:
    return Conversation(
        id=name,
        scope="me",
        profile="agent",
        model="sonnet",
        root=b"root",
        head=b"head",
        created=NOW,
        last_used=last_used,
        turns=turns,
    )


@contextmanager
def no_room() -> Iterator[None]:
    """No file can grow: it stands for the full disk, the same failure of the same calls."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to the file and does not end."""
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


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


async def test_a_full_disk_is_told_once_and_got_over(kept: Kept, mock_clock: MockClock) -> None:
    async with kept.running():
        with no_room():
            for turns in range(3):
                kept.writer.save_nowait(conversation(turns=turns))
                await blocked_by_trouble(kept)
                mock_clock.jump(RETRY_SECONDS)
            assert kept.writer.waiting == 1
        await recovered(kept, mock_clock)
        assert kept.writer.trouble is None
        assert kept.on_disk() == {"a": 2}
    assert kept.warnings == ["conversations cannot be saved now"]


async def recovered(kept: Kept, clock: MockClock) -> None:
    """Let time go on until all is written. A thread at work does not see the clock jump, so once
    may not be enough."""
    while kept.writer.waiting:
        clock.jump(RETRY_SECONDS)
        await wait_all_tasks_blocked(0.01)
    await kept.writer.flush()


async def blocked_by_trouble(kept: Kept) -> None:
    """Wait until a write has failed and the writer waits to try again."""
    while kept.writer.trouble is None:
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()


async def test_without_a_place_for_the_file_it_goes_on_and_recovers(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    kept = Kept(tmp_path / "later" / "index")
    async with kept.running() as found:
        assert found == []
        assert kept.writer.trouble is not None
        kept.writer.save_nowait(conversation())
        with trio.move_on_after(RETRY_SECONDS / 2):
            mock_clock.jump(RETRY_SECONDS / 2)
            await kept.writer.flush()
        assert kept.writer.waiting == 1
        kept.path.parent.mkdir()
        await recovered(kept, mock_clock)
        assert kept.writer.trouble is None
        assert kept.on_disk() == {"a": 1}


async def test_a_file_removed_while_in_use_is_begun_again(
    kept: Kept, mock_clock: MockClock
) -> None:
    async with kept.running():
        kept.writer.save_nowait(conversation("a"))
        await kept.writer.flush()
        kept.path.unlink()
        kept.writer.save_nowait(conversation("b"))
        await blocked_by_trouble(kept)
        await recovered(kept, mock_clock)
        assert kept.on_disk() == {"b": 1}


async def test_a_damaged_file_is_set_aside_and_told(kept: Kept) -> None:
    kept.path.write_text("no database" * 1000)
    async with kept.running() as found:
        assert found == []
        assert kept.warnings == ["the file of conversations was set aside"]
        kept.writer.save_nowait(conversation())
        await kept.writer.flush()
        assert kept.on_disk() == {"a": 1}


async def test_damage_while_in_use_is_set_aside_and_got_over(
    kept: Kept, mock_clock: MockClock
) -> None:
    async with kept.running():
        kept.writer.save_nowait(conversation("a"))
        await kept.writer.flush()
        other = sqlite3.connect(kept.path)
        other.executescript("DROP TABLE conversations")
        other.close()
        kept.writer.save_nowait(conversation("b"))
        await blocked_by_trouble(kept)
        await recovered(kept, mock_clock)
        assert kept.on_disk() == {"b": 1}
    assert kept.warnings == [
        "conversations cannot be saved now",
        "the file of conversations was set aside",
    ]


async def test_what_cannot_be_saved_does_not_hold_up_the_others(kept: Kept) -> None:
    bad = conversation("bad")
    bad.session_directory = "/\udcff"
    async with kept.running():
        kept.writer.save_nowait(conversation("a"))
        kept.writer.save_nowait(bad)
        kept.writer.save_nowait(conversation("b"))
        await kept.writer.flush()
        assert kept.on_disk() == {"a": 1, "b": 1}
    assert kept.warnings == ["a conversation cannot be saved"]


async def test_what_cannot_be_written_is_still_read(kept: Kept, mock_clock: MockClock) -> None:
    async with kept.running():
        kept.writer.save_nowait(conversation("a"))
    again = Kept(kept.path, keep_days=0)
    again.wall.now += DAY
    with locked(kept.path):
        async with again.running() as found:
            assert found == [conversation("a")]
            again.writer.save_nowait(conversation("b", last_used=again.wall.now))
        assert again.warnings == [
            "conversations cannot be saved now",
            "conversations were not saved",
        ]
        assert again.on_disk() == {"a": 1}
    async with again.running() as found:
        assert found == []
        await again.writer.flush()
        assert again.on_disk() == {"b": 1}


async def test_a_disk_that_hangs_does_not_hold_up_the_end(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.wall.goes.clear()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept.writer.run)
            kept.writer.save_nowait(conversation())
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                mock_clock.jump(END_SECONDS)
        assert kept.warnings == ["conversations were not saved"]
    finally:
        kept.wall.goes.set()
    # The hung call ends, and the next run takes over from it.
    async with kept.running():
        pass
    assert kept.on_disk() == {"a": 1}


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
