"""One turn at a time goes first where the login may have to be renewed (see renewal)."""

import time
from collections.abc import Callable

import trio

from maxd.daemon.renewal import needs_proof
from maxd.workers.cli import Login

# A renewal takes a second or two. Past this the others go on: better a race that the CLI's own
# lock should settle than a service that waits for one slow answer.
PATIENCE_SECONDS = 20.0


class FirstContact:
    """The gate between a lease and its first word to the service. `login` tells the login."""

    def __init__(
        self,
        login: Callable[[], Login | None] = lambda: None,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._login = login
        self._wall = wall
        self._proved_at: float | None = None
        self._first: object | None = None
        # Until when each of the others waits.
        self._until: dict[object, float] = {}
        self._changed = trio.Event()

    async def enter(self, turn: object) -> None:
        """Wait until `turn` may talk to the service: at once, unless another one is proving the
        login. Cancelling gives up nothing, and a turn that comes again has waited already; `left`
        ends that."""
        until = self._until.setdefault(turn, trio.current_time() + PATIENCE_SECONDS)
        with trio.move_on_at(until):
            while self._needs_proof() and self._first not in (None, turn):
                await self._changed.wait()
        if self._first is None and self._needs_proof():
            self._first = turn

    def answered(self, turn: object) -> None:
        """The service has begun to answer `turn`: the login is good."""
        self._proved_at = trio.current_time()
        self.left(turn)
        self._wake()

    def left(self, turn: object) -> None:
        """`turn` is over, or has proved what it could."""
        self._until.pop(turn, None)
        if self._first is turn:
            self._first = None
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _needs_proof(self) -> bool:
        since = None if self._proved_at is None else trio.current_time() - self._proved_at
        return needs_proof(self._login(), since, self._wall())
