"""A queue that is fair between clients and in order within one."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What can wait: it belongs to a client."""

    @property
    def client(self) -> str: ...


Waiter = TypeVar("Waiter", bound=Queued)


class FairQueue(Generic[Waiter]):
    """Round robin over the clients that wait, first in first out for each of them.

    A client with a hundred requests delays another's only by one request at a time.
    """

    def __init__(self) -> None:
        # Invariant: no line is empty. The first line's turn is next.
        self._lines: OrderedDict[str, deque[Waiter]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __iter__(self) -> Iterator[Waiter]:
        """All waiters in the order in which they would be served; the first cost no more than
        themselves. The queue must not change meanwhile."""
        lines: Iterable[Iterator[Waiter]] = map(iter, self._lines.values())
        while lines:
            remaining = []
            for line in lines:
                for waiter in line:
                    yield waiter
                    remaining.append(line)
                    break
            lines = remaining

    def append(self, waiter: Waiter) -> None:
        """Put `waiter` at the end of its client's line."""
        self._lines.setdefault(waiter.client, deque()).append(waiter)

    def prepend(self, waiter: Waiter) -> None:
        """Put `waiter` first in its client's line: it was served once and lost its worker."""
        self._lines.setdefault(waiter.client, deque()).appendleft(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Take `waiter` out unserved. Raises ValueError when it is not queued."""
        line = self._lines.get(waiter.client)
        if line is None:
            raise ValueError("not queued")
        line.remove(waiter)
        if not line:
            del self._lines[waiter.client]

    def serve(self, waiter: Waiter) -> None:
        """Take `waiter` out served: its client's next turn comes after the others'."""
        self.remove(waiter)
        if waiter.client in self._lines:
            self._lines.move_to_end(waiter.client)
