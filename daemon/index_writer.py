"""Keeps the index of conversations from a thread, so that no disk makes the daemon wait or fail."""

import math
import time
from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.conversation import Conversation
from maxd.daemon.index import Changes, Index, Name, Unstorable
from maxd.daemon.state_file import FileUnusable
from maxd.daemon.store_thread import END_SECONDS, RETRY_SECONDS, StoreThread

PRUNE_SECONDS: Final = 3600.0
# Of a conversation only the newest state waits, but while nothing can be written the deleted ones
# add up. About 30 MB.
MOST_WAITING: Final = 50_000


class IndexWriter:
    """Keeps the index at `path` up to date.

    What it is told waits in memory until written, of each conversation only the newest state. While
    the file cannot be used, it is tried again every `RETRY_SECONDS`, and nothing else fails.
    `clock` gives epoch seconds.
    """

    def __init__(
        self,
        path: Path,
        log: FilteringBoundLogger,
        *,
        keep_days: float,
        keep_count: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._keep_days = keep_days
        self._keep_count = keep_count
        self._index = StoreThread(
            partial(Index, path, clock=clock), log, contents="conversations", done="saved"
        )
        # What is not known to be written, the change told first at the front.
        self._waiting: dict[Name, Conversation | None] = {}
        # How many changes have been told, and how many of them nobody need wait for any more.
        self._told = 0
        self._settled = 0
        self._changed = trio.Event()
        self._flushing = trio.lowlevel.ParkingLot()
        self._prune_at = -math.inf

    @property
    def trouble(self) -> str | None:
        """Why the file cannot be used, while it cannot."""
        return self._index.trouble

    @property
    def waiting(self) -> int:
        """How many conversations have a state that is not known to be written."""
        return len(self._waiting)

    def save_nowait(self, conversation: Conversation) -> None:
        """Keep the state that a conversation has now; the caller may go on to change it."""
        self._tell((conversation.scope, conversation.id), copy(conversation))

    def delete_nowait(self, scope: str, conversation_id: str) -> None:
        """Forget a conversation."""
        self._tell((scope, conversation_id), None)

    async def flush(self) -> None:
        """Wait until what has been told so far is written, for as long as it takes: the deadline
        is the caller's. Cancelling changes nothing."""
        told = self._told
        while self._settled < told:
            await self._flushing.park()

    async def run(
        self, *, task_status: trio.TaskStatus[list[Conversation]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Open the index, prune it, and report started with what it holds, the conversation used
        last first; nothing, if it cannot be opened. Then write and, every `PRUNE_SECONDS`, prune.
        On cancellation write what waits, within `END_SECONDS`, and close."""
        try:
            task_status.started(await self._begin())
            while True:
                await self._pause()
                await self._write()
        finally:
            with trio.move_on_after(END_SECONDS, shield=True):
                await self._end()
            if self._waiting:
                self._log.warning("conversations were not saved", count=self.waiting)

    def _tell(self, name: Name, change: Conversation | None) -> None:
        self._waiting.pop(name, None)
        self._waiting[name] = change
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._told += 1
        self._changed.set()

    async def _begin(self) -> list[Conversation]:
        def work(index: Index) -> tuple[list[Conversation], bool]:
            pruned = True
            try:
                index.prune(self._keep_days, self._keep_count)
            except FileUnusable:
                # What cannot be written may still be read; the next write prunes.
                pruned = False
            return index.load(), pruned

        try:
            found, pruned = await self._index.write(work)
        except FileUnusable:
            return []
        if pruned:
            self._prune_at = trio.current_time() + PRUNE_SECONDS
        return found

    async def _pause(self) -> None:
        if self.trouble is not None:
            await trio.sleep(RETRY_SECONDS)
        elif self._settled == self._told:
            self._changed = trio.Event()
            with trio.move_on_at(self._prune_at):
                await self._changed.wait()

    async def _write(self) -> None:
        """Write what waits, and prune when it is time. Afterwards `trouble` says how it went."""
        told, changes = self._told, dict(self._waiting)
        now = trio.current_time()
        prune = now >= self._prune_at

        def work(index: Index) -> int:
            index.apply(changes)
            return index.prune(self._keep_days, self._keep_count) if prune else 0

        try:
            pruned = await self._index.write(work)
        except FileUnusable:
            return
        except Unstorable as error:
            self._log.warning("a conversation cannot be saved", reason=str(error))
            # The others have not been written either, and are tried again at once.
            self._settle({error.name: changes[error.name]})
            return
        if prune:
            self._prune_at = now + PRUNE_SECONDS
            self._log.debug("conversations pruned", count=pruned)
        self._settle(changes)
        self._settled = told
        self._flushing.unpark_all()

    def _settle(self, changes: Changes) -> None:
        """No longer keep `changes` waiting, unless something newer has been told."""
        for name, change in changes.items():
            if self._waiting.get(name, change) is change:
                self._waiting.pop(name, None)

    async def _end(self) -> None:
        while self._waiting:
            # Also after a trouble of ten seconds ago, which may be over.
            await self._write()
            if self.trouble is not None:
                break
        await self._index.close()
