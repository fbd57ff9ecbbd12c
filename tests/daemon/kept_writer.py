"""The thread that keeps the index, over one file, with its log and a clock on the wall."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import structlog
import trio
from structlog.testing import LogCapture

from maxd.daemon.conversation import Conversation
from maxd.daemon.index import Index
from maxd.daemon.index_writer import IndexWriter
from tests.daemon.kept_index import NOW

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


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
