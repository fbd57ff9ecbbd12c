"""Stored replies: there at once, written soon, and no disk makes a turn fail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
import trio

from maxd.daemon.reply_store import Keep, ReplyStore, StoredReply
from maxd.daemon.stored_replies import StoredReplies
from maxd.workers.faults import Overloaded

KEEP = Keep(days=30, count=1000, size=10**9)


@asynccontextmanager
async def running(directory: Path, keep: Keep = KEEP) -> AsyncIterator[StoredReplies]:
    replies = StoredReplies(directory / "replies.sqlite", structlog.get_logger(), keep)
    async with trio.open_nursery() as nursery:
        await nursery.start(replies.run)
        yield replies
        nursery.cancel_scope.cancel()


def reply(name: str, previous: str | None = None, scope: str = "me") -> StoredReply:
    return StoredReply(
        scope=scope, id=name, previous=previous, created=1.0, items=b"[]", body=name.encode()
    )


async def test_a_reply_is_there_at_once_and_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as replies:
        replies.save_nowait(reply("a"))
        assert await replies.get("me", "a") == reply("a")
        await replies.settle("me", "a")
        assert replies.trouble is None
        with_another = ReplyStore(tmp_path / "replies.sqlite")
        assert with_another.get("me", "a") == reply("a")
        with_another.close()
        replies.save_nowait(reply("b", "a"))
    async with running(tmp_path) as replies:
        assert await replies.line("me", "b") == [reply("a"), reply("b", "a")]


async def test_a_line_may_be_written_in_part(tmp_path: Path) -> None:
    async with running(tmp_path) as replies:
        replies.save_nowait(reply("a"))
        await replies.settle("me", "a")
        replies.save_nowait(reply("b", "a"))
        replies.save_nowait(reply("c", "b"))
        found = await replies.line("me", "c")
        assert found is not None
        assert [each.id for each in found] == ["a", "b", "c"]
        assert await replies.line("other", "c") is None
        assert await replies.delete("me", "a")
        assert await replies.line("me", "c") is None
        assert not await replies.delete("me", "a")
        replies.save_nowait(reply("d"))
        assert await replies.delete("me", "d")
        assert await replies.get("me", "d") is None


async def test_a_file_that_cannot_be_used_fails_nothing_but_reading(tmp_path: Path) -> None:
    # Nothing can be set aside where the directory is a file.
    (tmp_path / "state").write_text("")
    async with running(tmp_path / "state") as replies:
        assert replies.trouble is not None
        replies.save_nowait(reply("a"))
        with trio.fail_after(5):
            await replies.settle("me", "a")
        assert await replies.get("me", "a") == reply("a")
        assert await replies.line("me", "a") == [reply("a")]
        with pytest.raises(Overloaded):
            await replies.get("me", "b")
        with pytest.raises(Overloaded):
            await replies.line("me", "b")


async def test_what_waits_for_a_disk_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxd.daemon.stored_replies.MOST_WAITING_BYTES", 10)
    replies = StoredReplies(tmp_path / "no" / "file", structlog.get_logger(), KEEP)
    for name in ("aaaa", "bbbb", "cccc"):
        replies.save_nowait(reply(name))
    assert list(replies._waiting) == [("me", "cccc")]
