"""Keeps replies from a thread, so that no disk makes a turn wait or fail."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.reply_store import Keep, LineTooLong, ReplyStore, StoredReply
from maxd.daemon.state_file import FileUnusable
from maxd.daemon.store_thread import END_SECONDS, RETRY_SECONDS, StoreThread
from maxd.workers.faults import Overloaded, TooLarge

PRUNE_SECONDS: Final = 600.0
# How long the end of a reply waits for the disk. Longer, and a stuck disk would hold up answers
# that their clients have waited minutes for.
SETTLE_SECONDS: Final = 1.0
# What waits in memory while the file cannot be written.
MOST_WAITING_BYTES: Final = 64 * 2**20

T = TypeVar("T")


class StoredReplies:
    """The replies that clients may name, those not yet written included.

    While the file at `path` cannot be used, writing is tried again every `RETRY_SECONDS`, and only
    what has to be read fails.
    """

    def __init__(self, path: Path, log: FilteringBoundLogger, keep: Keep) -> None:
        self._log = log
        self._keep = keep
        self._store = StoreThread(partial(ReplyStore, path), log, contents="replies", done="stored")
        # What is not known to be written, the oldest first.
        self._waiting: dict[tuple[str, str], StoredReply] = {}
        self._told = trio.Event()
        self._written = trio.lowlevel.ParkingLot()
        self._prune_at = -math.inf

    @property
    def trouble(self) -> str | None:
        """Why the file cannot be written, while it cannot."""
        return self._store.trouble

    def save_nowait(self, reply: StoredReply) -> None:
        """Keep `reply`: it can be read from now on, and is written soon."""
        self._waiting[reply.scope, reply.id] = reply
        size = sum(each.size for each in self._waiting.values())
        while size > MOST_WAITING_BYTES and len(self._waiting) > 1:
            oldest = next(iter(self._waiting))
            size -= self._waiting.pop(oldest).size
            self._log.warning("a stored reply was dropped: the file cannot be written")
        self._told.set()

    async def settle(self, scope: str, reply_id: str) -> None:
        """Wait until a reply is written, for `SETTLE_SECONDS` at most: then it is read from memory.
        Cancelling changes nothing."""
        with trio.move_on_after(SETTLE_SECONDS):
            while self.trouble is None and (scope, reply_id) in self._waiting:
                await self._written.park()

    async def get(self, scope: str, reply_id: str) -> StoredReply | None:
        """A reply, if it is there. Raises Overloaded when the file cannot be read."""
        waiting = self._waiting.get((scope, reply_id))
        if waiting is not None:
            return waiting
        return await self._read(lambda store: store.get(scope, reply_id))

    async def line(self, scope: str, reply_id: str) -> list[StoredReply] | None:
        """The reply and those it follows, the first one first; None if one of them is not there.
        Raises Overloaded when the file cannot be read, TooLarge for a line that no model could
        read."""
        found: list[StoredReply] = []
        wanted: str | None = reply_id
        # What waits is newer than what is written.
        while wanted is not None and (waiting := self._waiting.get((scope, wanted))) is not None:
            found.append(waiting)
            wanted = waiting.previous
        if wanted is not None:
            try:
                found += await self._read(partial(ReplyStore.line, scope=scope, reply_id=wanted))
            except LineTooLong:
                raise TooLarge(
                    "the responses before this one hold too much", param="previous_response_id"
                ) from None
        if not found or found[-1].previous is not None:
            return None
        found.reverse()
        return found

    async def delete(self, scope: str, reply_id: str) -> bool:
        """Forget a reply; whether it was there. Raises Overloaded when the file cannot be
        written."""
        waited = self._waiting.pop((scope, reply_id), None) is not None
        # Also what waited: its write may be under way.
        return await self._read(lambda store: store.delete(scope, reply_id)) or waited

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the file, report started, then write and, every `PRUNE_SECONDS`, prune. On
        cancellation write what waits, within `END_SECONDS`, and close."""
        try:
            await self._write()
            task_status.started()
            while True:
                await self._pause()
                await self._write()
        finally:
            with trio.move_on_after(END_SECONDS, shield=True):
                if self._waiting:
                    await self._write()
                await self._store.close()
            if self._waiting:
                self._log.warning("replies were not stored", count=len(self._waiting))

    async def _pause(self) -> None:
        if self.trouble is not None:
            await trio.sleep(RETRY_SECONDS)
        elif not self._waiting:
            self._told = trio.Event()
            with trio.move_on_at(self._prune_at):
                await self._told.wait()

    async def _write(self) -> None:
        """Write what waits, and prune when it is time. Afterwards `trouble` says how it went."""
        replies = dict(self._waiting)
        now = trio.current_time()
        prune = now >= self._prune_at

        def work(store: ReplyStore) -> None:
            if replies:
                store.save(replies.values())
            if prune:
                store.prune(self._keep)

        try:
            await self._store.write(work)
        except FileUnusable:
            pass  # `trouble` says so, and what waits goes on waiting.
        else:
            if prune:
                self._prune_at = now + PRUNE_SECONDS
            for name, reply in replies.items():
                if self._waiting.get(name) is reply:
                    del self._waiting[name]
        self._written.unpark_all()

    async def _read(self, operation: Callable[[ReplyStore], T]) -> T:
        try:
            return await self._store.read(operation)
        except FileUnusable:
            raise Overloaded("stored responses cannot be read now") from None
