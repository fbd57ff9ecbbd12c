"""A file in the state directory, used from a thread, so that no disk makes the daemon wait."""

from collections.abc import Callable
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.state_file import FileUnusable

RETRY_SECONDS: Final = 10.0
"""How soon after a failure a file is tried again."""
END_SECONDS: Final = 2.0
"""What the last write may take when the daemon ends."""


class Store(Protocol):
    """What is kept in a StateFile."""

    @property
    def set_aside(self) -> str | None:
        """Why an earlier file was set aside, if one was."""

    def close(self) -> None:
        """Close the file. Never raises."""


S = TypeVar("S", bound=Store)
T = TypeVar("T")


class StoreThread(Generic[S]):
    """Uses the store that `open_store` opens, in a thread, one call at a time. It is opened when it
    is first used, and again after it was unusable.

    While it cannot be written, `trouble` is why. `contents` (`conversations`) and `done` (`saved`)
    name in the log what is kept and what becomes of it.
    """

    def __init__(
        self,
        open_store: Callable[[], S],
        log: FilteringBoundLogger,
        *,
        contents: str,
        done: str,
    ) -> None:
        self._open = open_store
        self._log = log
        self._contents, self._done = contents, done
        self.trouble: str | None = None
        # A call that was abandoned on cancellation goes on in its thread; the limit of one keeps
        # the next one out until it has ended. Only a call within the limit uses `_store`.
        self._limiter = trio.CapacityLimiter(1)
        self._store: S | None = None

    async def read(self, operation: Callable[[S], T]) -> T:
        """The result of `operation`. Raises FileUnusable, and what `operation` does. When
        cancelled, it may still be done."""
        return await trio.to_thread.run_sync(
            partial(self._call, operation), abandon_on_cancel=True, limiter=self._limiter
        )

    async def write(self, operation: Callable[[S], T]) -> T:
        """As `read`; afterwards `trouble` says how it went. What is the matter is logged once, and
        so is its end."""
        try:
            result = await self.read(operation)
        except FileUnusable as error:
            if self.trouble is None:
                self._log.warning(f"{self._contents} cannot be {self._done} now", reason=str(error))
            self.trouble = str(error)
            raise
        if self.trouble is not None:
            self._log.info(f"{self._contents} can be {self._done} again")
            self.trouble = None
        return result

    async def close(self) -> None:
        """Close the store, behind the call that is still under way. Cancelling leaves that to the
        end of the process."""
        await trio.to_thread.run_sync(self._close, abandon_on_cancel=True, limiter=self._limiter)

    def _call(self, operation: Callable[[S], T]) -> T:
        if self._store is None:
            self._store = self._open()
            if self._store.set_aside is not None:
                self._log.warning(
                    f"the file of {self._contents} was set aside", reason=self._store.set_aside
                )
        try:
            return operation(self._store)
        except FileUnusable:
            self._close()
            raise

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
