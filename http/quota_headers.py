"""Quotas as clients see them: counted turns, and the x-ratelimit headers of OpenAI."""

from collections.abc import Callable, Iterable
from functools import partial

import trio

from maxd.daemon.keys import KeyRing
from maxd.daemon.quotas import Left, Quotas
from maxd.http.guard import Headers


class Meter:
    """Counts the turns of each key."""

    def __init__(self, ring: KeyRing, quotas: Quotas) -> None:
        self._ring = ring
        self._quotas = quotas

    def count_in(self, name: str | None, headers: Headers) -> Callable[[], None]:
        """Count a turn of the key `name` in. What is left goes into `headers`. Returns what counts
        it out, to be called once when the turn has ended. Raises KeyLimited."""
        key = None if name is None else self._ring.keys.get(name)
        if name is None or key is None:
            return _nothing
        try:
            self._quotas.admit(name, key, trio.current_time())
        finally:
            # A refused request is told too how long it has to wait for what.
            headers += encode(self._quotas.left(name, trio.current_time()))
        return partial(self._quotas.finish, name)


def _nothing() -> None:
    """Nobody is counted."""


def encode(left: Iterable[Left]) -> Headers:
    """`x-ratelimit-limit-requests` and its kin."""
    headers: Headers = []
    for each in left:
        for word, value in (
            ("limit", str(each.limit)),
            ("remaining", str(each.remaining)),
            ("reset", f"{each.reset:.3f}s"),
        ):
            headers.append((f"x-ratelimit-{word}-{each.kind}".encode(), value.encode()))
    return headers
