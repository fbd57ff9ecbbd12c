"""Reading a request body without letting it grow, dawdle or crowd out the others."""

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from maxd.workers.faults import BadRequest, Overloaded, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quart import Request

DEADLINE = 30.0
"""Seconds a client has for its whole body; on loopback 64 MB take less than one."""


class Budget:
    """Bytes of bodies that may be in memory at once, over all requests.

    Nothing waits for it: what does not fit is refused, so two large bodies cannot wait for each
    other. Bytes are counted as they come; a client that only announces them holds nothing.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def __repr__(self) -> str:
        return f"<Budget {self.used} of {self.total} bytes used>"

    @contextmanager
    def hold(self) -> "Iterator[Hold]":
        """A hold that starts empty and gives back everything at the end."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            self.used -= hold.size


class Hold:
    """The share of one request in a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def grow(self, count: int) -> None:
        """Take `count` more bytes. Raises Overloaded, and takes nothing, if they do not fit."""
        if self._budget.used + count > self._budget.total:
            raise Overloaded("Too many large requests at once.", retry_after=2.0)
        self._budget.used += count
        self.size += count


async def read_body(
    request: "Request", *, limit: int, budget: Budget, deadline: float = DEADLINE
) -> bytes:
    """The whole body of `request`; it can be read once.

    `limit` is in bytes, `deadline` in seconds from now for the body as a whole, so a trickle
    does not extend it. The bytes count against `budget` until this returns. Raises TooLarge at
    the first byte over the limit, BadRequest with status 408 at the deadline, and Overloaded
    when the budget is used up. The rest of a refused body is not read: the server closes the
    connection after the reply. If the client goes away half-way, this is cancelled.
    """
    parts: list[bytes] = []
    with budget.hold() as hold, trio.move_on_after(deadline):
        async for part in request.body:
            if hold.size + len(part) > limit:
                raise TooLarge(f"The body is over the limit of {limit} bytes.")
            hold.grow(len(part))
            parts.append(part)
        return b"".join(parts)
    raise BadRequest(
        f"The body did not arrive within {deadline:g} s.", status=408, code="request_timeout"
    )
