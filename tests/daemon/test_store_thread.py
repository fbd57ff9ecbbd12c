"""A store in a thread: what is the matter is told once, and reading ends no trouble of writing."""

import os
from functools import partial
from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture

from maxd.daemon.reply_store import ReplyStore, StoredReply
from maxd.daemon.state_file import FileUnusable
from maxd.daemon.store_thread import StoreThread

REPLY = StoredReply(scope="me", id="a", previous=None, created=1.0, items=b"[]", body=b"{}")


def save(store: ReplyStore) -> None:
    store.save([REPLY])


def get(store: ReplyStore) -> StoredReply | None:
    return store.get("me", "a")


async def test_trouble_is_that_of_writing_and_told_once(tmp_path: Path) -> None:
    directory = tmp_path / "later"
    capture = LogCapture()
    thread = StoreThread(
        partial(ReplyStore, directory / "file"),
        structlog.wrap_logger(None, processors=[capture]),
        contents="replies",
        done="stored",
    )
    with pytest.raises(FileUnusable):
        await thread.read(get)
    assert thread.trouble is None
    for _ in range(2):
        with pytest.raises(FileUnusable):
            await thread.write(save)
        assert thread.trouble is not None
    directory.mkdir()
    assert await thread.read(get) is None
    assert thread.trouble is not None
    await thread.write(save)
    assert thread.trouble is None
    assert await thread.read(get) == REPLY
    await thread.close()
    # SQLite removes its log when the last connection is closed in good order.
    assert os.listdir(directory) == ["file"]
    assert [entry["event"] for entry in capture.entries] == [
        "replies cannot be stored now",
        "replies can be stored again",
    ]
