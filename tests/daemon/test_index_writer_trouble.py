"""What the keeper of the index does while its file cannot be written, or is not what it was."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from maxd.daemon.store_thread import END_SECONDS, RETRY_SECONDS
from tests.daemon.kept_index import DAY, conversation
from tests.daemon.kept_writer import Kept
from tests.scarcity import no_room


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "index")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to the file and does not end."""
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


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
